//! How other threads speak to a worker: a queue and an eventfd that wakes its epoll.

use crate::directory::Peer;
use crate::pool::Outcome;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::Instant;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this connection.
    Accepted(OwnedFd, Peer),
    /// A job of one of its connections is done.
    Done(Token, Outcome),
    /// End the sessions of this export.
    CloseExport(String),
    /// Finish what was begun, take nothing new, end everything at this time.
    Stop(Instant),
}

/// A connection of a worker: its place, and which of the place's tenants it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A worker's queue.
#[derive(Debug)]
pub(crate) struct Mailbox {
    messages: Mutex<Vec<Message>>,
    bell: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { messages: Mutex::default(), bell })
    }

    /// Puts a message in; rings only where the worker has nothing to read yet.
    pub(crate) fn post(&self, message: Message) {
        let mut messages = self.messages.lock().expect("no thread panics while it holds a mailbox");
        let first = messages.is_empty();
        messages.push(message);
        drop(messages);
        if first {
            // Fails only where the counter is full, and then the bell rings already.
            let _ = write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Takes all messages out.
    pub(crate) fn take(&self, into: &mut Vec<Message>) {
        let _ = read(&self.bell, &mut [0u8; 8]);
        let mut messages = self.messages.lock().expect("no thread panics while it holds a mailbox");
        std::mem::swap(&mut *messages, into);
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
