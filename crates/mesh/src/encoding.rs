//! Chunks as they travel: raw, one zstd frame, or a zstd frame that continues the chunk which an
//! older version has at the same place.
//!
//! The sender packs what the receiver accepts and what pays, the receiver unpacks into a chunk's
//! room and no further. Whether the bytes are right is for their hash to say: the store compares
//! every chunk, however it came.

use bytes::Bytes;
use model::CHUNK_SIZE;
use protocol::mesh::{Accept, Encoding};
use zstd_safe::{CCtx, CParameter, DCtx};

/// zstd's own default: higher ones cost several times the time for a few percent.
const LEVEL: i32 = 3;
/// What packing must save at least, as a part of the chunk: less is not worth the unpacking.
const WORTH: usize = 8;

/// Why the bytes of a chunk make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnpackError {
    /// They are no zstd frame, or one of more than a chunk.
    #[error("a chunk that is no zstd frame of at most {CHUNK_SIZE} bytes")]
    NoFrame,
    /// They continue a chunk that is not here.
    #[error("a chunk that continues another one, which is not here")]
    NoParent,
}

/// The shortest form of a chunk that is welcome; `parent` reads the chunk at the same place of a
/// version, where it is here.
pub(crate) fn pack(
    chunk: Vec<u8>,
    accept: Accept,
    parent: impl FnOnce(model::Root) -> Option<Vec<u8>>,
) -> (Encoding, Bytes) {
    let delta = accept.delta.and_then(|root| Some((root, parent(root)?)));
    let packed = match &delta {
        Some((root, parent)) => {
            deflate(&chunk, Some(parent)).map(|bytes| (Encoding::ZstdDelta(*root), bytes))
        }
        None if accept.zstd => deflate(&chunk, None).map(|bytes| (Encoding::Zstd, bytes)),
        None => None,
    };
    match packed {
        Some((encoding, bytes)) => (encoding, bytes.into()),
        None => (Encoding::Raw, chunk.into()),
    }
}

/// None where it does not pay.
fn deflate(chunk: &[u8], parent: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut context = CCtx::try_create()?;
    context.set_parameter(CParameter::CompressionLevel(LEVEL)).ok()?;
    if let Some(parent) = parent {
        context.ref_prefix(parent).ok()?;
    }
    // What does not fit is not worth it.
    let mut bytes = Vec::with_capacity(chunk.len() - chunk.len() / WORTH);
    context.compress2(&mut bytes, chunk).ok()?;
    Some(bytes)
}

/// The bytes of a chunk, unverified; `parent` is asked only where they continue another chunk.
pub(crate) fn unpack(
    encoding: Encoding,
    bytes: Bytes,
    parent: impl FnOnce(model::Root) -> Option<Vec<u8>>,
) -> Result<Bytes, UnpackError> {
    match encoding {
        Encoding::Raw => Ok(bytes),
        Encoding::Zstd => inflate(&bytes, None),
        Encoding::ZstdDelta(root) => {
            let parent = parent(root).ok_or(UnpackError::NoParent)?;
            inflate(&bytes, Some(&parent))
        }
    }
}

fn inflate(bytes: &[u8], parent: Option<&[u8]>) -> Result<Bytes, UnpackError> {
    let mut context = DCtx::try_create().ok_or(UnpackError::NoFrame)?;
    if let Some(parent) = parent {
        context.ref_prefix(parent).map_err(|_| UnpackError::NoFrame)?;
    }
    let mut chunk = Vec::with_capacity(CHUNK_SIZE as usize);
    context.decompress(&mut chunk, bytes).map_err(|_| UnpackError::NoFrame)?;
    Ok(chunk.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Root;
    use proptest::prelude::*;

    const PARENT: Root = Root::from_bytes([7; 32]);

    /// Bytes that zstd cannot shorten.
    fn noise(seed: u64) -> Vec<u8> {
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes());
        let mut bytes = vec![0; CHUNK_SIZE as usize];
        hash.finalize_xof().fill(&mut bytes);
        bytes
    }

    fn round_trip(chunk: &[u8], accept: Accept, parent: Option<&[u8]>) -> (Encoding, usize) {
        let parent = |_| parent.map(<[u8]>::to_vec);
        let (encoding, bytes) = pack(chunk.to_vec(), accept, parent);
        let len = bytes.len();
        assert_eq!(unpack(encoding, bytes, parent).unwrap(), chunk);
        (encoding, len)
    }

    #[test]
    fn a_chunk_that_differs_little_from_its_parent_is_short() {
        let (parent, mut chunk) = (noise(1), noise(1));
        chunk[1000..1400].copy_from_slice(&noise(2)[..400]);
        let accept = Accept { zstd: true, delta: Some(PARENT) };
        let (encoding, len) = round_trip(&chunk, accept, Some(&parent));
        assert_eq!(encoding, Encoding::ZstdDelta(PARENT));
        assert!(len < 600, "{len} bytes");
    }

    #[test]
    fn what_does_not_pay_or_is_not_welcome_is_raw() {
        let accept = Accept { zstd: true, delta: None };
        assert_eq!(round_trip(&noise(1), accept, None).0, Encoding::Raw);
        let text = b"the same words ".repeat(4000);
        assert_eq!(round_trip(&text, accept, None).0, Encoding::Zstd);
        assert_eq!(round_trip(&text, Accept::default(), None).0, Encoding::Raw);
        assert_eq!(round_trip(&noise(1), Accept { zstd: true, delta: Some(PARENT) }, None).0, Encoding::Raw);
    }

    #[test]
    fn a_frame_of_more_than_a_chunk_is_refused() {
        let long = deflate(&[0; CHUNK_SIZE as usize + 1], None).unwrap();
        assert_eq!(unpack(Encoding::Zstd, long.into(), |_| None), Err(UnpackError::NoFrame));
        let frame = deflate(&[1; 100], Some(&[1; 100])).unwrap();
        let without = unpack(Encoding::ZstdDelta(PARENT), frame.into(), |_| None);
        assert_eq!(without, Err(UnpackError::NoParent));
    }

    #[test]
    fn frames_of_today_are_read_for_ever() {
        let golden = include_bytes!("../golden/chunk-delta-1.zst");
        let parent: Vec<u8> = (0..CHUNK_SIZE).map(|at| (at / 7) as u8).collect();
        let mut chunk = parent.clone();
        chunk[5000..5005].copy_from_slice(b"hello");
        let unpacked = unpack(Encoding::ZstdDelta(PARENT), Bytes::from_static(golden), |_| Some(parent));
        assert_eq!(unpacked.unwrap(), chunk);
    }

    proptest! {
        #[test]
        fn whatever_a_peer_sends_is_at_most_a_chunk(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            for encoding in [Encoding::Zstd, Encoding::ZstdDelta(PARENT)] {
                if let Ok(chunk) = unpack(encoding, bytes.clone().into(), |_| Some(noise(3))) {
                    prop_assert!(chunk.len() <= CHUNK_SIZE as usize);
                }
            }
        }
    }
}
