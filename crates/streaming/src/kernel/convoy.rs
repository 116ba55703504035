//! Answers to many connections with one call, by io_uring.
//!
//! A thread that wakes a client with each send is preempted by it each time, where they share
//! cores: a switch for every reply. Here all sends of a round are one call. Every send is marked
//! not to wait, so that all are done, or refused, when the call returns: nothing is ever under
//! way in the ring between two calls.

use super::Gather;
use io_uring::{IoUring, opcode, types};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// The most sends of one call: what a worker may spend in it, about 0.3 ms.
const MAX_SENDS: usize = 64;

/// The sends of one call; reused, so that a call allocates nothing.
pub(crate) struct Convoy {
    ring: IoUring,
    sends: Vec<Send>,
    pieces: Vec<libc::iovec>,
    messages: Vec<libc::msghdr>,
}

struct Send {
    socket: RawFd,
    first_piece: usize,
    result: Result<usize, Errno>,
}

impl Convoy {
    /// A ring of its own; none where the system refuses it, by age or by policy.
    pub(crate) fn new() -> Option<Self> {
        let ring = IoUring::builder().setup_coop_taskrun().build(MAX_SENDS as u32).ok()?;
        Some(Self { ring, sends: Vec::new(), pieces: Vec::new(), messages: Vec::new() })
    }

    /// Whether [`Convoy::send`] is due before another [`Convoy::add`].
    pub(crate) fn is_full(&self) -> bool {
        self.sends.len() >= MAX_SENDS
    }

    /// Takes the pieces of one send over; they stay where they are until [`Convoy::send`].
    pub(crate) fn add(&mut self, socket: BorrowedFd<'_>, gather: &Gather) {
        assert!(!self.is_full());
        let first_piece = self.pieces.len();
        self.pieces.extend_from_slice(&gather.pieces);
        self.sends.push(Send { socket: socket.as_raw_fd(), first_piece, result: Err(Errno::AGAIN) });
    }

    /// Sends all; the results come from [`Convoy::take_results`]. False where the ring has failed:
    /// what it did not take has the result EAGAIN, and it must be dropped.
    pub(crate) fn send(&mut self) -> bool {
        self.list_messages();
        for (number, (send, message)) in self.sends.iter().zip(&self.messages).enumerate() {
            let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
            let entry = opcode::SendMsg::new(types::Fd(send.socket), message).flags(flags).build();
            // SAFETY: message and pieces live in `self` until all results are there; the kernel
            // checks the addresses that the pieces name.
            let pushed = unsafe { self.ring.submission().push(&entry.user_data(number as u64)) };
            pushed.expect("the ring has an entry for each send, and is empty between two calls");
        }
        let mut open = self.sends.len();
        while open > 0 {
            let submitted = self.ring.submit_and_wait(open);
            for done in self.ring.completion() {
                let length = usize::try_from(done.result());
                self.sends[done.user_data() as usize].result =
                    length.map_err(|_| Errno::from_raw_os_error(-done.result()));
                open -= 1;
            }
            if let Err(error) = submitted
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::warn!(%error, "io_uring fails, answers are sent one by one from now on");
                return false;
            }
        }
        true
    }

    /// The results in the order of [`Convoy::add`]; the next round may begin.
    pub(crate) fn take_results(&mut self) -> impl Iterator<Item = Result<usize, Errno>> {
        self.pieces.clear();
        self.sends.drain(..).map(|send| send.result)
    }

    fn list_messages(&mut self) {
        self.messages.clear();
        for (number, send) in self.sends.iter().enumerate() {
            let end = self.sends.get(number + 1).map_or(self.pieces.len(), |next| next.first_piece);
            // SAFETY: all zeros is a valid msghdr: no name, no pieces, no control data.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = self.pieces[send.first_piece..].as_mut_ptr();
            message.msg_iovlen = end - send.first_piece;
            self.messages.push(message);
        }
    }
}
