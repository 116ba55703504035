//! The disk as the servers have it: one NBD connection at a time, and no I/O error while any
//! server can answer.
//!
//! Calls are pipelined: [`RemoteDisk::submit`] sends them and returns, the link's thread tells
//! each call's `done` how it ended. When a connection ends, the link opens one to the next server
//! in turn and sends again whatever was not answered; a shared disk's content is the same on all
//! of them, because the export names a root. A draft is written to as well: what order its changes
//! keep is in [`flight`], what is kept for a server that loses power in [`unflushed`]. The link
//! itself is in [`link`], the thread that sends to a draft in [`outbox`].

mod call;
mod connect;
mod flight;
mod link;
mod outbox;
#[cfg(test)]
mod tests;
mod unflushed;

pub(crate) use call::{Action, CallDone, RemoteCall};

use crate::console;
use disk::{Access, BlockError, BlockIo, Extent, ExtentKind, Geometry, Piece};
use flight::Flight;
use model::{ByteRange, DiskSize, Name};
use protocol::plan::{BootPlan, DiskPlan, StreamServer};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::Duration;

/// The longest read that is sent as one request: what every server takes.
const MAX_READ_BYTES: u64 = 1 << 20;

/// What to stream and from where.
#[derive(Clone, Debug)]
pub(crate) struct RemoteTarget {
    /// The servers, in the order to try.
    pub(crate) servers: Vec<StreamServer>,
    /// The NBD export.
    pub(crate) export: String,
    /// The size that every server must confirm.
    pub(crate) size: DiskSize,
    /// Whether the device writes to it.
    pub(crate) access: Access,
    /// When to give a connection up.
    pub(crate) patience: Patience,
}

/// How long the link waits before it tries another connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a connection to open, its handshake included.
    pub(crate) connect: Duration,
    /// For any byte of an answer, while calls wait.
    pub(crate) stall: Duration,
    /// The longest pause between two rounds over all servers that all failed.
    pub(crate) longest_pause: Duration,
    /// For a draft's session to be known again, where servers answer and do not know it.
    pub(crate) unknown: Duration,
}

impl Patience {
    /// By eye: a healthy server answers a cold read in well under a second, and one that is alone
    /// gets more time, because leaving it for itself costs more than it brings.
    fn for_servers(count: usize) -> Self {
        Self {
            connect: Duration::from_secs(3),
            stall: Duration::from_secs(if count > 1 { 4 } else { 20 }),
            longest_pause: Duration::from_secs(2),
            unknown: Duration::from_secs(30),
        }
    }

    /// A flush makes a server's disk write what was only in its memory, which may take a minute;
    /// leaving it for that would begin the same flush again.
    fn for_draft(count: usize) -> Self {
        Self { stall: Duration::from_secs(90), ..Self::for_servers(count) }
    }
}

impl RemoteTarget {
    /// What a plan says.
    pub(crate) fn of_plan(plan: &BootPlan) -> Self {
        let count = plan.servers.len();
        let (access, patience) = match plan.disk {
            DiskPlan::Shared { .. } => (Access::ReadOnly, Patience::for_servers(count)),
            DiskPlan::Draft => (Access::ReadWrite, Patience::for_draft(count)),
        };
        let (servers, export) = (plan.servers.clone(), plan.export.clone());
        Self { servers, export, size: plan.size, access, patience }
    }
}

/// What the link is doing, for reports and for the network keeper.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkStatus {
    /// The server in use, none while there is no connection.
    pub(crate) server: Option<Name>,
    /// Our end of the connection.
    pub(crate) local: Option<SocketAddr>,
    /// Bytes received for reads.
    pub(crate) read_bytes: u64,
    /// Bytes of writes that were taken in.
    pub(crate) written_bytes: u64,
    /// Calls that had to be sent again.
    pub(crate) retries: u64,
    /// Calls waiting for an answer.
    pub(crate) waiting: usize,
    /// Why nothing is written any more, if so.
    pub(crate) refused: Option<String>,
}

struct Shared {
    target: RemoteTarget,
    flight: Mutex<Flight>,
    /// Told of every change of the connection and of the close.
    changed: Condvar,
    /// Told when there is something for the sender's thread.
    to_send: Condvar,
    closed: AtomicBool,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    retries: AtomicU64,
}

impl Shared {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().expect("no holder of the lock panics")
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// The disk as the servers have it.
pub(crate) struct RemoteDisk {
    shared: Arc<Shared>,
}

impl RemoteDisk {
    /// Starts connecting, on a thread of its own, and returns at once.
    pub(crate) fn start(target: RemoteTarget) -> std::io::Result<Self> {
        let is_draft = target.access == Access::ReadWrite;
        let shared = Arc::new(Shared {
            target,
            flight: Mutex::new(if is_draft { Flight::of_draft() } else { Flight::default() }),
            changed: Condvar::new(),
            to_send: Condvar::new(),
            closed: AtomicBool::new(false),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        });
        if is_draft {
            let of_thread = Arc::clone(&shared);
            std::thread::Builder::new().name("send".into()).spawn(move || outbox::run(&of_thread))?;
        }
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("link".into()).spawn(move || link::run(&of_thread))?;
        Ok(Self { shared })
    }

    /// Makes calls, together; those that cannot be sent now wait for a connection.
    pub(crate) fn submit(&self, calls: Vec<RemoteCall>) {
        if self.shared.is_closed() {
            return calls.into_iter().for_each(|call| (call.done)(Err(BlockError::Closed)));
        }
        let written = |call: &RemoteCall| match &call.action {
            Action::Write { bytes, .. } => bytes.len() as u64,
            _ => 0,
        };
        self.shared.written_bytes.fetch_add(calls.iter().map(written).sum(), Ordering::Relaxed);
        let failed = self.shared.flight().add(calls);
        self.shared.to_send.notify_one();
        failed.into_iter().for_each(call::Finished::tell);
    }

    /// Makes durable what was acknowledged, and waits for that; no longer than `timeout`.
    pub(crate) fn flush_within(&self, timeout: Duration) -> Result<(), BlockError> {
        let (send, receive) = mpsc::sync_channel(1);
        let done: CallDone = Box::new(move |result| drop(send.send(result)));
        self.submit(vec![RemoteCall { range: ByteRange::new(0, 0), action: Action::Flush, done }]);
        receive.recv_timeout(timeout).map_err(|_| BlockError::Io("no answer in time".into()))?.map(drop)
    }

    /// Waits until there is a connection, at most `timeout`, and says whether there is one.
    pub(crate) fn wait_connected(&self, timeout: Duration) -> bool {
        let flight = self.shared.flight();
        let (flight, _) = self
            .shared
            .changed
            .wait_timeout_while(flight, timeout, |flight| !flight.is_connected())
            .expect("no holder of the lock panics");
        flight.is_connected()
    }

    /// What the link is doing.
    pub(crate) fn status(&self) -> LinkStatus {
        let flight = self.shared.flight();
        LinkStatus {
            server: flight.server().cloned(),
            local: flight.local_address(),
            read_bytes: self.shared.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.shared.written_bytes.load(Ordering::Relaxed),
            retries: self.shared.retries.load(Ordering::Relaxed),
            waiting: flight.waiting(),
            refused: flight.refused().map(|refused| refused.reason.clone()),
        }
    }

    /// Drops the connection so that the link opens a new one: the network has changed under it.
    pub(crate) fn reconnect(&self) {
        self.shared.flight().drop_connection();
    }
}

impl Drop for RemoteDisk {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.flight().drop_connection();
        self.shared.changed.notify_all();
        self.shared.to_send.notify_all();
        console::info("the disk is closed");
    }
}

/// The disk below a write cache: reads. A draft's changes go by [`RemoteDisk::submit`].
impl BlockIo for RemoteDisk {
    fn geometry(&self) -> Geometry {
        Geometry { size_bytes: self.shared.target.size.bytes(), access: Access::ReadOnly }
    }

    fn read_resident<'a>(&'a self, _: ByteRange, _: &mut Vec<Piece<'a>>) -> bool {
        false
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.geometry().check(ByteRange::new(offset, buffer.len() as u64))?;
        let parts = buffer.chunks_mut(MAX_READ_BYTES as usize).enumerate();
        let (reads, answers): (Vec<_>, Vec<_>) = parts
            .map(|(number, part)| {
                let at = offset + number as u64 * MAX_READ_BYTES;
                let (send, receive) = mpsc::sync_channel(1);
                let done: CallDone = Box::new(move |result| drop(send.send(result)));
                let range = ByteRange::new(at, part.len() as u64);
                (RemoteCall { range, action: Action::Read, done }, (part, receive))
            })
            .unzip();
        self.submit(reads);
        for (part, receive) in answers {
            part.copy_from_slice(&receive.recv().map_err(|_| BlockError::Closed)??);
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn trim(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn write_zeroes(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    /// Everything counts as data: asking the server is not worth a round trip to a file system.
    fn extents(&self, range: ByteRange, _: usize) -> Result<Vec<Extent>, BlockError> {
        self.geometry().check(range)?;
        Ok(vec![Extent { len: range.len, kind: ExtentKind::Data }])
    }

    fn is_far(&self, _: ByteRange) -> bool {
        false
    }

    fn prefetch(&self, _: ByteRange) {}
}
