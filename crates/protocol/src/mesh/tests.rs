//! What is said is heard, what nobody may say is refused, and the bytes stay the same.

use super::exercise::exercise;
use super::*;
use bytes::{Bytes, BytesMut};
use model::manifest::PAGE_BYTES;
use model::{ChunkIndex, Name, PageHash, Root};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn encoded(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    decode(&mut BytesMut::from(bytes))
}

fn root() -> impl Strategy<Value = Root> {
    any::<[u8; 32]>().prop_map(Root::from_bytes)
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=max.min(300)).prop_map(Bytes::from)
}

fn chunks(min: usize) -> impl Strategy<Value = Vec<ChunkIndex>> {
    vec(any::<u32>().prop_map(ChunkIndex), min..=MAX_NAMED)
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Control), Just(Class::OnDemand), Just(Class::Bulk)]
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<u16>(), any::<[u8; 16]>(), "[a-z0-9][a-z0-9._-]{0,62}", any::<u64>(), class()).prop_map(
        |(revision, farm, server, incarnation, class)| Hello {
            revision,
            farm: FarmId(farm),
            server: Name::new(&server).unwrap(),
            incarnation,
            class,
        },
    )
}

fn possession() -> impl Strategy<Value = Possession> {
    let part = (0..u32::MAX / 8, vec(any::<u8>(), 1..300))
        .prop_map(|(first, bits)| Possession::Part { first: ChunkIndex(first * 8), bits: bits.into() });
    prop_oneof![Just(Possession::Gone), Just(Possession::Complete), part]
}

fn request() -> impl Strategy<Value = Request> {
    let pages = vec(any::<[u8; 32]>().prop_map(PageHash::from_bytes), 1..=MAX_NAMED);
    let accept = (any::<bool>(), option::of(root())).prop_map(|(zstd, delta)| Accept { zstd, delta });
    prop_oneof![
        root().prop_map(|root| Request::GetManifest { root }),
        Just(Request::GetStatus),
        pages.prop_map(|names| Request::GetPages { names }),
        (root(), accept, chunks(1)).prop_map(|(root, accept, chunks)| Request::GetChunks {
            root,
            accept,
            chunks
        }),
    ]
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Raw), Just(Encoding::Zstd), root().prop_map(Encoding::ZstdDelta)]
}

fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        bytes(300).prop_map(Response::Manifest),
        (any::<[u8; 32]>(), any::<u8>()).prop_map(|(name, byte)| Response::Page {
            name: PageHash::from_bytes(name),
            bytes: vec![byte; PAGE_BYTES].into(),
        }),
        (any::<u32>(), encoding(), bytes(300)).prop_map(|(index, encoding, bytes)| Response::Chunk {
            index: ChunkIndex(index),
            encoding,
            bytes
        }),
        chunks(0).prop_map(|chunks| Response::NotHere { chunks }),
        ".{0,600}".prop_map(|text| Response::Refused(Refused::new(&text))),
        bytes(300).prop_map(Response::Status),
        Just(Response::Done),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        hello().prop_map(Frame::Hello),
        Just(Frame::Alive),
        Just(Frame::WantHave),
        (root(), any::<u64>(), possession()).prop_map(|(root, sequence, possession)| Frame::Have(Have {
            root,
            sequence,
            possession
        })),
        Just(Frame::HaveEnd),
        (any::<u32>(), request()).prop_map(|(id, request)| Frame::Request { id, request }),
        any::<u32>().prop_map(|id| Frame::Cancel { id }),
        (any::<u32>(), response()).prop_map(|(id, response)| Frame::Response { id, response }),
    ]
}

proptest! {
    #[test]
    fn a_frame_is_read_as_it_was_sent(frame in frame()) {
        prop_assert_eq!(decoded(&encoded(&frame)), Ok(Some(frame)));
    }

    #[test]
    fn a_frame_that_is_not_all_here_waits(frame in frame(), cut in any::<prop::sample::Index>()) {
        let mut whole = encoded(&frame);
        whole.truncate(cut.index(whole.len()));
        let before = whole.clone();
        prop_assert_eq!(decode(&mut whole), Ok(None));
        prop_assert_eq!(whole, before);
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..2000)) {
        exercise(&bytes);
    }

    #[test]
    fn a_damaged_frame_is_survived(frame in frame(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = vec![255];
        bytes.extend(encoded(&frame));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        exercise(&bytes);
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
    let long = (MAX_FRAME_BYTES + 1).to_le_bytes();
    assert_eq!(decoded(&long), Err(FrameError::Length(MAX_FRAME_BYTES + 1)));
    assert_eq!(decoded(&[0; 4]), Err(FrameError::Length(0)));
}

#[test]
fn what_a_kind_does_not_allow_is_refused() {
    let body = |kind: u8, body: &[u8]| {
        let mut bytes = (body.len() as u32 + 1).to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend(body);
        decoded(&bytes)
    };
    assert_eq!(body(0x7f, b""), Err(FrameError::Kind(0x7f)));
    for (kind, bytes) in [
        (0x02, &b"more"[..]),         // alive with a body
        (0x21, &[0; 4]),              // no pages
        (0x21, &[0; 4 + 33]),         // a page and a byte
        (0x22, &[0; 4 + 32 + 1]),     // no chunks
        (0x22, &[0; 4 + 32 + 1 + 3]), // part of a chunk's number
        (0x22, &[0; 4 + 32 + 1 + 257 * 4]),
        (0x31, &[0; 4 + 32 + 100]),            // a page that is none
        (0x32, &[0; 4 + 4 + 1 + 65_537]),      // a chunk that is too large
        (0x34, &[255; 8]),                     // no text
        (0x11, &[2; 32 + 8 + 1 + 4 + 1]),      // a part that begins inside a byte
        (0x01, b"HWMESH00aaaaaaaaaaaaaaaaaa"), // another magic
    ] {
        assert_eq!(body(kind, bytes), Err(FrameError::Malformed(kind)), "{kind:#x}");
    }
}

#[test]
fn a_payload_is_handed_back_and_not_copied() {
    let chunk = Bytes::from(vec![7; 65_536]);
    let response = Response::Chunk { index: ChunkIndex(1), encoding: Encoding::Raw, bytes: chunk.clone() };
    let mut head = BytesMut::new();
    let payload = Frame::Response { id: 1, response }.encode_head(&mut head);
    assert_eq!(payload.as_ptr(), chunk.as_ptr());
    assert!(head.len() < 64);
}

#[test]
fn a_refusal_is_shortened_between_characters() {
    let refused = Refused::new(&"é".repeat(300));
    assert_eq!(refused.text().len(), 400);
    assert_eq!(Refused::new("a\nb").text(), "a b");
}

/// One frame of each kind, as docs/formats.md lists them.
fn golden_frames() -> Vec<Frame> {
    let root = Root::from_bytes([0xa1; 32]);
    let chunks = vec![ChunkIndex(1), ChunkIndex(258)];
    let farm = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
    let chunk =
        |encoding| Response::Chunk { index: ChunkIndex(9), encoding, bytes: Bytes::from_static(b"bytes") };
    let have = |possession| Frame::Have(Have { root, sequence: 5, possession });
    let delta = Some(Root::from_bytes([0xb2; 32]));
    let mut frames = vec![
        Frame::Hello(Hello::new(farm, Name::new("pvs01").unwrap(), 7, Class::Bulk)),
        Frame::Alive,
        Frame::WantHave,
        have(Possession::Gone),
        have(Possession::Complete),
        have(Possession::Part { first: ChunkIndex(16), bits: Bytes::from_static(&[0x81]) }),
        Frame::HaveEnd,
        Frame::Cancel { id: 3 },
    ];
    let requests = [
        Request::GetManifest { root },
        Request::GetPages { names: vec![PageHash::from_bytes([0xc3; 32])] },
        Request::GetChunks { root, accept: Accept { zstd: true, delta }, chunks: chunks.clone() },
        Request::GetChunks { root, accept: Accept::default(), chunks: chunks.clone() },
        Request::GetStatus,
    ];
    let responses = [
        Response::Manifest(Bytes::from_static(b"manifest")),
        Response::Page { name: PageHash::from_bytes([0xc3; 32]), bytes: vec![0xd4; PAGE_BYTES].into() },
        chunk(Encoding::Raw),
        chunk(Encoding::Zstd),
        chunk(Encoding::ZstdDelta(Root::from_bytes([0xb2; 32]))),
        Response::NotHere { chunks },
        Response::Refused(Refused::new("not now")),
        Response::Done,
        Response::Status(Bytes::from_static(b"{}")),
    ];
    frames.extend(requests.map(|request| Frame::Request { id: 3, request }));
    frames.extend(responses.map(|response| Frame::Response { id: 3, response }));
    frames
}

#[test]
fn the_golden_bytes_are_written_and_read() {
    let mut golden = BytesMut::from(&include_bytes!("../../golden/mesh-1.bin")[..]);
    let mut written = BytesMut::new();
    golden_frames().iter().for_each(|frame| frame.encode(&mut written));
    assert!(written == golden, "the wire format has changed");
    for frame in golden_frames() {
        assert_eq!(decode(&mut golden), Ok(Some(frame)));
    }
}
