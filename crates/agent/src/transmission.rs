//! The serving end of NBD's transmission phase, for the kernel's driver and for a unix socket.
//!
//! Requests are taken in batches, as one read of the socket brings them. What the cache can do is
//! done at once and answered with one write; reads that need a server are sent to it together and
//! answered as they come back, in any order; the few writes that must first read from a server
//! (less than a block) go to a small pool. What becomes of one request is in [`orders`].

mod orders;
mod pool;
#[cfg(test)]
mod tests;

use crate::device_disk::DeviceDisk;
use orders::Orders;
use protocol::nbd::ErrorNumber;
use protocol::nbd::server::{BadRequest, ChunkRange, Incoming, ReplyForm, ReplyTo, RequestParser, Session};
use std::io::{IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

/// Room for requests between two reads: a few writes of 128 KiB, the kernel's longest.
const BUFFER_BYTES: usize = 512 * 1024;

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    /// The client said so, or closed the socket.
    #[error("the client has disconnected")]
    Disconnected,
    /// The client sent what is no request.
    #[error("the client broke the protocol: {0}")]
    Protocol(#[from] BadRequest),
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The session that the kernel's driver expects: it negotiates nothing.
pub(crate) fn kernel_session(size_bytes: u64) -> Session {
    Session { form: ReplyForm::Simple, allocation: false, size_bytes, read_only: false }
}

/// A client that is past its handshake.
pub(crate) struct Client {
    /// Where it is.
    pub(crate) socket: UnixStream,
    /// What was agreed on.
    pub(crate) session: Session,
    /// Bytes of requests that came with the handshake.
    pub(crate) early: Vec<u8>,
}

/// Serves one client until it goes.
pub(crate) fn serve(disk: &Arc<DeviceDisk>, client: Client) -> SessionEnd {
    match serve_until_error(disk, client) {
        Ok(()) => SessionEnd::Disconnected,
        Err(end) => end,
    }
}

fn serve_until_error(disk: &Arc<DeviceDisk>, client: Client) -> Result<(), SessionEnd> {
    let Client { mut socket, session, early } = client;
    let replies = Replies { socket: Arc::new(Mutex::new(socket.try_clone()?)), form: session.form };
    let mut orders = Orders::new(disk, replies)?;
    let mut parser = RequestParser::new(session);
    let mut buffer = vec![0; BUFFER_BYTES.max(early.len())];
    buffer[..early.len()].copy_from_slice(&early);
    let mut filled = early.len();
    loop {
        let Some(consumed) = take_batch(&mut parser, &mut orders, &buffer[..filled])? else { return Ok(()) };
        buffer.copy_within(consumed..filled, 0);
        filled -= consumed;
        match socket.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(len) => filled += len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes all that `input` says; answers how much is done with, none where the client goes away.
fn take_batch(
    parser: &mut RequestParser,
    orders: &mut Orders,
    input: &[u8],
) -> Result<Option<usize>, BadRequest> {
    let mut at = 0;
    loop {
        let parsed = parser.next(&input[at..])?;
        at += parsed.consumed;
        match parsed.incoming {
            Some(Incoming::Disconnect) => return Ok(None),
            Some(incoming) => orders.take(incoming),
            None if parsed.consumed == 0 => break,
            None => {}
        }
    }
    orders.finish_batch();
    Ok(Some(at))
}

/// The socket's sending half, shared by all who answer.
#[derive(Clone)]
struct Replies {
    socket: Arc<Mutex<UnixStream>>,
    form: ReplyForm,
}

impl Replies {
    /// Answers a read. A socket that fails here ends the session where it is read.
    fn send_data(&self, to: ReplyTo, data: &[u8]) {
        let mut head = Vec::with_capacity(64);
        self.put_data_head(to, data, &mut head);
        let _ = self.send_all(&mut [IoSlice::new(&head), IoSlice::new(data)]);
    }

    /// Answers everything else.
    fn send(&self, to: ReplyTo, result: Result<(), ErrorNumber>) {
        let mut bytes = Vec::with_capacity(64);
        self.put(to, result, &mut bytes);
        let _ = self.send_all(&mut [IoSlice::new(&bytes)]);
    }

    fn put(&self, to: ReplyTo, result: Result<(), ErrorNumber>, output: &mut Vec<u8>) {
        match result {
            Ok(()) => self.form.put_done(to, output),
            Err(error) => self.form.put_error(to, error, output),
        }
    }

    fn put_data_head(&self, to: ReplyTo, data: &[u8], output: &mut Vec<u8>) {
        let range = ChunkRange { offset: to.offset, len: data.len() as u32, last: true };
        self.form.put_data_head(to, range, output);
    }

    fn send_all(&self, mut pieces: &mut [IoSlice<'_>]) -> std::io::Result<()> {
        let mut socket = self.socket.lock().expect("no holder of the lock panics");
        while pieces.iter().any(|piece| !piece.is_empty()) {
            match socket.write_vectored(pieces) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(sent) => IoSlice::advance_slices(&mut pieces, sent),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
