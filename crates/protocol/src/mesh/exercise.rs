//! What the fuzz target and the properties do with arbitrary bytes: feed them in pieces and assert
//! what must hold whatever they are. Panics are findings.

use super::{Frame, MAX_FRAME_BYTES, decode};
use bytes::BytesMut;

/// Receives `bytes` in pieces whose size the first byte says, as from a peer, until an error; every
/// frame must be the same when it is sent on and read again.
pub fn exercise(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let mut received = BytesMut::new();
    for piece in bytes.chunks(usize::from(*step) * 16 + 1) {
        received.extend_from_slice(piece);
        loop {
            match decode(&mut received) {
                Ok(Some(frame)) => assert_survives(&frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(received.len() < 4 + MAX_FRAME_BYTES as usize, "what waits is bounded");
    }
}

fn assert_survives(frame: &Frame) {
    let mut sent = BytesMut::new();
    frame.encode(&mut sent);
    assert_eq!(decode(&mut sent).as_ref(), Ok(&Some(frame.clone())));
    assert!(sent.is_empty());
}
