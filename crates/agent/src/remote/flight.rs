//! The calls in flight: what was asked, what has come, and the connection it was asked over.
//!
//! On a draft three rules keep the order of changes through lost connections. What was
//! acknowledged but not flushed is sent again first, and nothing else before that is acknowledged.
//! A change that touches bytes of an earlier change waits until that one is acknowledged, so two
//! of them are never under way together. And a change that the server refuses for good ends all
//! changes: the disk is read-only from then on.

use super::call::{Action, Finished, Frame, RemoteCall, Waiting};
use super::unflushed::Unflushed;
use crate::console;
use disk::BlockError;
use model::{ByteRange, Name};
use protocol::nbd::ErrorNumber;
use protocol::nbd::client::{PendingRead, Reply};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

/// How often one call may fail, on whatever servers, before the device is told: enough for a
/// round over a handful of servers and a second one after a pause.
const MAX_FAILURES: u32 = 8;
/// Acknowledged changes that are kept before the agent asks for a flush of its own: some seconds
/// of a fast network's writes, a few percent of a small device's memory.
const FLUSH_AT_BYTES: u64 = 32 << 20;
/// With so many, further changes wait for that flush.
const HOLD_AT_BYTES: u64 = 64 << 20;
/// Marks the cookies of changes that are sent again.
const AGAIN: u64 = 1 << 63;

/// What a server did that ends its connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadServer {
    #[error("it answered {1} with {0:?}")]
    Failed(ErrorNumber, &'static str),
    #[error("it left out a part of what was asked for")]
    Incomplete,
}

struct Sender {
    stream: Arc<TcpStream>,
    server: Name,
}

/// All calls in flight and the connection in use.
#[derive(Default)]
pub(super) struct Flight {
    waiting: BTreeMap<u64, Waiting>,
    next_cookie: u64,
    sender: Option<Sender>,
    /// What the sender's thread is to send, on a draft.
    outbox: VecDeque<Frame>,
    is_draft: bool,
    unflushed: Unflushed,
    /// Changes that were sent again and not acknowledged yet; nothing else goes out before.
    again: BTreeSet<u64>,
    again_failures: u32,
    /// The flush that nobody but the agent asked for.
    own_flush: Option<u64>,
    refused: Option<Refused>,
}

/// Why nothing is written any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// For people.
    pub(super) reason: String,
    /// Whether reads fail as well: the session is gone.
    pub(super) reads_too: bool,
}

impl Flight {
    /// No calls yet, of a disk that is a draft.
    pub(super) fn of_draft() -> Self {
        Self { is_draft: true, ..Self::default() }
    }

    /// Takes calls in and sends them where there is a connection. Answers those that fail at once.
    pub(super) fn add(&mut self, calls: Vec<RemoteCall>) -> Vec<Finished> {
        let first = self.next_cookie;
        let mut failed = Vec::new();
        for call in calls {
            let waiting = Waiting::new(call, self.unflushed.mark());
            match self.is_refused(&waiting.action) {
                Some(error) => failed.push(waiting.fail(error)),
                None => {
                    self.waiting.insert(self.next_cookie, waiting);
                    self.next_cookie += 1;
                }
            }
        }
        self.send_from(first);
        failed
    }

    fn is_refused(&self, action: &Action) -> Option<BlockError> {
        let refused = self.refused.as_ref()?;
        match action {
            Action::Read if !refused.reads_too => None,
            Action::Read => Some(BlockError::Io(refused.reason.clone())),
            _ => Some(BlockError::ReadOnly),
        }
    }

    /// Takes a new connection into use and sends everything that waits. Answers how many calls
    /// were sent a second time.
    pub(super) fn use_connection(&mut self, stream: Arc<TcpStream>, server: Name) -> u64 {
        let mut repeated = 0;
        for waiting in self.waiting.values_mut() {
            repeated += u64::from(waiting.was_sent);
            waiting.begin_again();
        }
        self.sender = Some(Sender { stream, server });
        repeated += self.send_again();
        self.send_from(0);
        repeated
    }

    /// Sends what may be lost with a server that lost its memory.
    fn send_again(&mut self) -> u64 {
        self.again.clear();
        self.outbox.clear();
        for (number, (range, content)) in self.unflushed.all().enumerate() {
            let cookie = AGAIN | number as u64;
            self.again.insert(cookie);
            self.outbox.push_back(Frame::again(cookie, range, content));
        }
        self.again.len() as u64
    }

    fn send_from(&mut self, first: u64) {
        if self.sender.is_none() || !self.again.is_empty() {
            return;
        }
        let ready: Vec<u64> = self.waiting.range(first..).map(|(cookie, _)| *cookie).collect();
        let mut frames = Vec::new();
        for cookie in ready {
            if self.waiting[&cookie].on_wire || self.must_wait(cookie) {
                continue;
            }
            let waiting = self.waiting.get_mut(&cookie).expect("it was just found");
            (waiting.on_wire, waiting.was_sent) = (true, true);
            frames.push(waiting.frame(cookie));
        }
        match self.is_draft {
            true => self.outbox.extend(frames),
            false => self.send_now(&frames),
        }
    }

    fn must_wait(&self, cookie: u64) -> bool {
        let waiting = &self.waiting[&cookie];
        if !self.is_draft || !waiting.action.changes() {
            return false;
        }
        let is_too_much = self.own_flush.is_some() && self.unflushed.memory_bytes() >= HOLD_AT_BYTES;
        is_too_much || self.waiting.range(..cookie).any(|(_, earlier)| earlier.collides(waiting))
    }

    /// Reads only: their heads fit into any socket's buffer, so this does not wait for the server.
    fn send_now(&mut self, frames: &[Frame]) {
        let Some(sender) = &mut self.sender else { return };
        let heads: Vec<u8> = frames.iter().flat_map(|frame| frame.header.encode()).collect();
        if (&*sender.stream).write_all(&heads).is_err() {
            // The link's thread finds the end of the stream and opens the next connection.
            let _ = sender.stream.shutdown(Shutdown::Both);
        }
    }

    /// The next frames for the sender's thread, about `bytes` of them, and where to send them.
    pub(super) fn next_frames(&mut self, bytes: usize) -> Option<(Arc<TcpStream>, Vec<Frame>)> {
        let stream = Arc::clone(&self.sender.as_ref()?.stream);
        let (mut frames, mut gathered) = (Vec::new(), 0);
        while gathered < bytes {
            let Some(frame) = self.outbox.pop_front() else { break };
            gathered += frame.payload.as_ref().map_or(0, |payload| payload.len());
            frames.push(frame);
        }
        if frames.is_empty() { None } else { Some((stream, frames)) }
    }

    /// Forgets the connection; what waits will be sent over the next one.
    pub(super) fn lose_connection(&mut self) {
        self.sender = None;
        self.outbox.clear();
    }

    /// Ends the connection from our side; the link's thread notices.
    pub(super) fn drop_connection(&mut self) {
        if let Some(sender) = &self.sender {
            let _ = sender.stream.shutdown(Shutdown::Both);
        }
    }

    /// What a cookie waits for, for the parser of replies.
    pub(super) fn pending(&self, cookie: u64) -> Option<PendingRead> {
        if self.again.contains(&cookie) {
            return Some(PendingRead { offset: 0, len: 0 });
        }
        let waiting = self.waiting.get(&cookie)?;
        Some(PendingRead { offset: waiting.range.offset, len: waiting.bytes.len() as u32 })
    }

    /// Takes one event of a reply; calls that it completes are pushed to `finished`.
    pub(super) fn take(&mut self, reply: Reply<'_>, finished: &mut Vec<Finished>) -> Result<(), BadServer> {
        match reply {
            Reply::Data { cookie, offset, bytes } => self.fill(cookie, offset, bytes.len(), |to| {
                to.copy_from_slice(bytes);
            }),
            Reply::Zeroes { cookie, offset, len } => self.fill(cookie, offset, len as usize, |to| to.fill(0)),
            Reply::Status { .. } => {}
            Reply::Failed { cookie, error } if self.again.contains(&cookie) => {
                return self.fail_again(error, finished);
            }
            Reply::Failed { cookie, error } => {
                if let Some(waiting) = self.waiting.get_mut(&cookie) {
                    waiting.failed = Some(error);
                }
            }
            Reply::Done { cookie } if self.again.remove(&cookie) => {
                if self.again.is_empty() {
                    self.again_failures = 0;
                    self.send_from(0);
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

    /// A change that was acknowledged before and is refused now: the server has lost it, and what
    /// the device believes is no longer true.
    fn fail_again(&mut self, error: ErrorNumber, finished: &mut Vec<Finished>) -> Result<(), BadServer> {
        self.again_failures += 1;
        if is_final(error) || error == ErrorNumber::NoSpace || self.again_failures >= MAX_FAILURES {
            self.refuse(format!("it does not take again what it acknowledged ({error:?})"), finished);
            return Ok(());
        }
        Err(BadServer::Failed(error, "a repeated write"))
    }

    fn finish(&mut self, cookie: u64, finished: &mut Vec<Finished>) -> Result<(), BadServer> {
        let Some(waiting) = self.waiting.get_mut(&cookie) else { return Ok(()) };
        let what = if matches!(waiting.action, Action::Read) { "a read" } else { "a write" };
        let is_read = matches!(waiting.action, Action::Read);
        let bad = match waiting.failed {
            None if waiting.is_incomplete() => BadServer::Incomplete,
            None => return self.finish_well(cookie, finished),
            Some(ErrorNumber::NoSpace) if !is_read => {
                finished.extend(self.end(cookie).map(|waiting| waiting.fail(BlockError::NoSpace)));
                return Ok(());
            }
            Some(error) if !is_read && is_final(error) => {
                self.refuse(format!("it answered a write with {error:?}"), finished);
                return Ok(());
            }
            Some(error) => BadServer::Failed(error, what),
        };
        waiting.failures += 1;
        if waiting.failures < MAX_FAILURES {
            return Err(bad); // it goes to the next server
        }
        if self.is_draft && !is_read && waiting.failed == Some(ErrorNumber::Shutdown) {
            self.refuse("it closed the draft to this machine".to_owned(), finished);
            return Ok(());
        }
        let error = format!("every server failed: {bad}");
        finished.extend(self.end(cookie).map(|waiting| waiting.fail(BlockError::Io(error))));
        Ok(())
    }

    fn finish_well(&mut self, cookie: u64, finished: &mut Vec<Finished>) -> Result<(), BadServer> {
        let Some(waiting) = self.waiting.remove(&cookie) else { return Ok(()) };
        if self.is_draft {
            self.note_acknowledged(cookie, &waiting);
        }
        finished.push(waiting.finish());
        Ok(())
    }

    fn note_acknowledged(&mut self, cookie: u64, waiting: &Waiting) {
        match &waiting.action {
            Action::Read => return,
            Action::Flush => self.unflushed.flushed(waiting.mark),
            _ => match waiting.unflushed() {
                Some(content) => self.unflushed.put(waiting.range, content),
                None => self.unflushed.cut(waiting.range),
            },
        }
        if self.own_flush == Some(cookie) {
            self.own_flush = None;
        }
        self.keep_bounded();
        self.send_from(0); // what this one held back
    }

    fn keep_bounded(&mut self) {
        if self.own_flush.is_none() && self.unflushed.memory_bytes() >= FLUSH_AT_BYTES {
            self.own_flush = Some(self.next_cookie);
            let (range, action) = (ByteRange::new(0, 0), Action::Flush);
            let call = RemoteCall { range, action, done: Box::new(|_| ()) };
            self.waiting.insert(self.next_cookie, Waiting::new(call, self.unflushed.mark()));
            self.next_cookie += 1;
        }
    }

    /// Ends a call badly; what it held back goes out.
    fn end(&mut self, cookie: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&cookie);
        if self.own_flush == Some(cookie) {
            self.own_flush = None;
        }
        self.send_from(0);
        waiting
    }

    /// Gives up writing, for good.
    pub(super) fn refuse(&mut self, reason: String, finished: &mut Vec<Finished>) {
        self.give_up(Refused { reason, reads_too: false }, finished);
    }

    /// Gives up, for good.
    pub(super) fn give_up(&mut self, refused: Refused, finished: &mut Vec<Finished>) {
        console::problem(format!(
            "this machine can no longer write to its disk: {}\n\
             hint: what it wrote until then is in the draft; see \"headwater version list\", then \
             restart this machine",
            refused.reason
        ));
        self.refused = Some(refused);
        self.unflushed.clear();
        self.again.clear();
        self.own_flush = None;
        let all: Vec<(u64, Option<BlockError>)> = self
            .waiting
            .iter()
            .map(|(cookie, waiting)| (*cookie, self.is_refused(&waiting.action)))
            .collect();
        for (cookie, error) in all {
            if let Some(error) = error {
                finished.extend(self.waiting.remove(&cookie).map(|waiting| waiting.fail(error)));
            }
        }
        // Replies to what was just forgotten may come: the connection cannot be used any further.
        self.drop_connection();
    }

    /// Ends all calls: the disk is closed.
    pub(super) fn close(&mut self) -> Vec<Finished> {
        let all = std::mem::take(&mut self.waiting);
        all.into_values().map(|waiting| waiting.fail(BlockError::Closed)).collect()
    }

    pub(super) fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }

    pub(super) fn is_draft(&self) -> bool {
        self.is_draft
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() + self.again.len()
    }

    #[cfg(test)]
    pub(super) fn unflushed_bytes(&self) -> u64 {
        self.unflushed.memory_bytes()
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

/// Whether asking again is no use: the server has nothing against the bytes but against us.
fn is_final(error: ErrorNumber) -> bool {
    matches!(error, ErrorNumber::Perm | ErrorNumber::NotSupported)
}
