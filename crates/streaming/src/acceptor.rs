//! The thread that takes new connections and deals them out.

use crate::listener::Listener;
use crate::mailbox::Message;
use crate::worker::WorkerHandle;
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long to wait where the process has no descriptors left: a burst passes, a log does not
/// fill.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// The thread's state.
pub(crate) struct Acceptor {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) workers: Vec<Arc<WorkerHandle>>,
    pub(crate) max_connections: usize,
    /// Readable when it is time to stop.
    pub(crate) stop: OwnedFd,
}

impl Acceptor {
    /// Takes connections until it is told to stop.
    pub(crate) fn run(self) {
        loop {
            let stop = std::iter::once(self.stop.as_fd());
            let all = stop.chain(self.listeners.iter().map(AsFd::as_fd));
            let mut polled: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return tracing::error!(%error, "no new connections are taken any more"),
            }
            let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[0] {
                return;
            }
            let listeners = self.listeners.iter().zip(&ready[1..]);
            listeners.filter(|(_, ready)| **ready).for_each(|(listener, _)| self.accept_all(listener));
        }
    }

    fn accept_all(&self, listener: &Listener) {
        loop {
            let (socket, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => {
                    tracing::warn!(%error, "a connection has to wait");
                    return std::thread::sleep(OUT_OF_DESCRIPTORS);
                }
                Err(_) => continue, // gone again before we came
            };
            let count = |worker: &Arc<WorkerHandle>| worker.connections.load(Ordering::Relaxed);
            if self.workers.iter().map(count).sum::<usize>() >= self.max_connections {
                tracing::debug!(%peer, "one connection too many, refused");
                continue;
            }
            let worker = self.workers.iter().min_by_key(|worker| count(worker));
            let worker = worker.expect("a server has at least one worker");
            worker.connections.fetch_add(1, Ordering::Relaxed);
            worker.mailbox.post(Message::Accepted(socket, peer));
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}
