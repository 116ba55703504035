//! The reads in flight: what was asked, what has come, and the connection it was asked over.

use super::{ReadDone, RemoteRead};
use disk::BlockError;
use model::{ByteRange, Name};
use protocol::nbd::client::{PendingRead, Reply};
use protocol::nbd::wire::REQUEST_BYTES;
use protocol::nbd::{Command, ErrorNumber, RequestHeader};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};

/// How often one read may fail, on whatever servers, before the device is told: enough for a
/// round over a handful of servers and a second one after a pause.
const MAX_FAILURES: u32 = 8;

/// One read.
struct Waiting {
    range: ByteRange,
    bytes: Vec<u8>,
    /// Bytes received on this connection.
    got: u64,
    /// The server's error on this connection.
    failed: Option<ErrorNumber>,
    failures: u32,
    sent: bool,
    done: ReadDone,
}

/// A read that is over, to be told to its owner without the lock held.
pub(super) struct Finished {
    done: ReadDone,
    result: Result<Vec<u8>, BlockError>,
}

impl Finished {
    /// Tells the owner.
    pub(super) fn tell(self) {
        (self.done)(self.result);
    }
}

/// What a server did that ends its connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadServer {
    #[error("it answered a read with {0:?}")]
    Failed(ErrorNumber),
    #[error("it left out a part of what was asked for")]
    Incomplete,
}

struct Sender {
    stream: TcpStream,
    server: Name,
}

/// All reads in flight and the connection in use.
#[derive(Default)]
pub(super) struct Flight {
    waiting: BTreeMap<u64, Waiting>,
    next_cookie: u64,
    sender: Option<Sender>,
}

impl Flight {
    /// Takes reads in and sends them where there is a connection.
    pub(super) fn add(&mut self, reads: Vec<RemoteRead>) {
        let first = self.next_cookie;
        for read in reads {
            let bytes = vec![0; read.range.len as usize];
            let (range, done) = (read.range, read.done);
            let waiting = Waiting { range, bytes, got: 0, failed: None, failures: 0, sent: false, done };
            self.waiting.insert(self.next_cookie, waiting);
            self.next_cookie += 1;
        }
        self.send_from(first);
    }

    /// Takes a new connection into use and sends everything that waits. Answers how many reads
    /// were sent a second time.
    pub(super) fn use_connection(&mut self, stream: TcpStream, server: Name) -> u64 {
        let mut again = 0;
        for waiting in self.waiting.values_mut() {
            again += u64::from(waiting.sent);
            (waiting.got, waiting.failed) = (0, None);
        }
        self.sender = Some(Sender { stream, server });
        self.send_from(0);
        again
    }

    fn send_from(&mut self, first: u64) {
        let Some(sender) = &mut self.sender else { return };
        let mut requests = Vec::with_capacity(REQUEST_BYTES);
        for (cookie, waiting) in self.waiting.range_mut(first..) {
            let len = waiting.range.len as u32;
            let header = RequestHeader::new(Command::Read, *cookie, waiting.range.offset, len);
            requests.extend_from_slice(&header.encode());
            waiting.sent = true;
        }
        if sender.stream.write_all(&requests).is_err() {
            // The link's thread finds the end of the stream and opens the next connection.
            let _ = sender.stream.shutdown(Shutdown::Both);
        }
    }

    /// Forgets the connection; what waits will be sent over the next one.
    pub(super) fn lose_connection(&mut self) {
        self.sender = None;
    }

    /// Ends the connection from our side; the link's thread notices.
    pub(super) fn drop_connection(&mut self) {
        if let Some(sender) = &self.sender {
            let _ = sender.stream.shutdown(Shutdown::Both);
        }
    }

    /// What a cookie waits for, for the parser of replies.
    pub(super) fn pending(&self, cookie: u64) -> Option<PendingRead> {
        let waiting = self.waiting.get(&cookie)?;
        Some(PendingRead { offset: waiting.range.offset, len: waiting.range.len as u32 })
    }

    /// Takes one event of a reply; a read that it completes is pushed to `finished`.
    pub(super) fn take(&mut self, reply: Reply<'_>, finished: &mut Vec<Finished>) -> Result<(), BadServer> {
        match reply {
            Reply::Data { cookie, offset, bytes } => self.fill(cookie, offset, bytes.len(), |to| {
                to.copy_from_slice(bytes);
            }),
            Reply::Zeroes { cookie, offset, len } => self.fill(cookie, offset, len as usize, |to| to.fill(0)),
            Reply::Status { .. } => {}
            Reply::Failed { cookie, error } => {
                if let Some(waiting) = self.waiting.get_mut(&cookie) {
                    waiting.failed = Some(error);
                }
            }
            Reply::Done { cookie } => return self.finish(cookie, finished),
        }
        Ok(())
    }

    fn fill(&mut self, cookie: u64, offset: u64, len: usize, put: impl FnOnce(&mut [u8])) {
        let Some(waiting) = self.waiting.get_mut(&cookie) else { return };
        let from = (offset - waiting.range.offset) as usize; // the parser has checked the range
        put(&mut waiting.bytes[from..from + len]);
        waiting.got += len as u64;
    }

    fn finish(&mut self, cookie: u64, finished: &mut Vec<Finished>) -> Result<(), BadServer> {
        let Some(waiting) = self.waiting.get_mut(&cookie) else { return Ok(()) };
        let bad = match waiting.failed {
            None if waiting.got == waiting.range.len => None,
            None => Some(BadServer::Incomplete),
            Some(error) => Some(BadServer::Failed(error)),
        };
        waiting.failures += u32::from(bad.is_some());
        if bad.is_some() && waiting.failures < MAX_FAILURES {
            return bad.map_or(Ok(()), Err); // it goes to the next server
        }
        let Waiting { done, bytes, .. } = self.waiting.remove(&cookie).expect("it was just found");
        let result = match bad {
            None => Ok(bytes),
            Some(bad) => Err(BlockError::Io(format!("every server failed: {bad}"))),
        };
        finished.push(Finished { done, result });
        Ok(())
    }

    /// Ends all reads: the disk is closed.
    pub(super) fn close(&mut self) -> Vec<Finished> {
        let all = std::mem::take(&mut self.waiting);
        all.into_values().map(|w| Finished { done: w.done, result: Err(BlockError::Closed) }).collect()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.sender.is_some()
    }

    pub(super) fn server(&self) -> Option<&Name> {
        self.sender.as_ref().map(|sender| &sender.server)
    }

    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        self.sender.as_ref().and_then(|sender| sender.stream.local_addr().ok())
    }
}
