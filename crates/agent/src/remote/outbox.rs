//! The thread that sends to a draft's server.
//!
//! Writes are larger than any socket's buffer: whoever sent them while holding the lock of the
//! calls in flight would keep the answers from being read, and a server that cannot get rid of its
//! answers stops reading requests.

use super::Shared;
use super::call::Frame;
use std::io::Write;
use std::net::Shutdown;

/// Frames are gathered up to about this much before they are sent.
const BATCH_BYTES: usize = 256 * 1024;

/// Sends what is in the outbox until the disk is closed.
pub(super) fn run(shared: &Shared) {
    let mut batch = Vec::new();
    while !shared.is_closed() {
        let mut flight = shared.flight();
        match flight.next_frames(BATCH_BYTES) {
            None => drop(shared.to_send.wait(flight).expect("no holder of the lock panics")),
            Some((stream, frames)) => {
                drop(flight);
                gather(&frames, &mut batch);
                if (&*stream).write_all(&batch).is_err() {
                    // The link's thread finds the end of the stream and opens the next connection.
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
        }
    }
}

fn gather(frames: &[Frame], batch: &mut Vec<u8>) {
    batch.clear();
    for frame in frames {
        batch.extend_from_slice(&frame.header.encode());
        batch.extend_from_slice(frame.payload.as_ref().map_or(&[], |payload| payload.as_slice()));
    }
}
