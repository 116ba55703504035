//! Starting, watching and stopping an NBD server.

use crate::acceptor::Acceptor;
use crate::directory::{ExportDirectory, SessionTotals};
use crate::listener::Listener;
use crate::mailbox::{Mailbox, Message};
use crate::pool::Pool;
use crate::sessions::{SessionStatus, Sessions};
use crate::tls::TlsPolicy;
use crate::worker::{Worker, WorkerHandle};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Threads for requests that may have to wait for another server, so that those never hold up who
/// reads what is here; by eye: what is under way between two servers is bounded anyway.
const FAR_THREADS: usize = 32;

/// How a server runs. [`NbdOptions::new`] has defaults for everything but the listeners.
#[derive(Debug)]
pub struct NbdOptions {
    /// Where devices connect.
    pub listeners: Vec<Listener>,
    /// Threads that serve; by default one for each core.
    pub workers: usize,
    /// Threads that may wait for disks; by default 16, what nbdkit uses.
    pub pool_threads: usize,
    /// Connections at once, handshakes included.
    pub max_connections: usize,
    /// How long a client may take to open an export.
    pub handshake_timeout: Duration,
    /// Whether devices speak TLS.
    pub tls: TlsPolicy,
}

impl NbdOptions {
    /// The defaults with these listeners.
    pub fn new(listeners: Vec<Listener>) -> Self {
        Self {
            listeners,
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            pool_threads: 16,
            max_connections: 8192,
            handshake_timeout: Duration::from_secs(10),
            tls: TlsPolicy::Off,
        }
    }
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A server that nobody can reach.
    #[error("an NBD server needs at least one address to listen on")]
    NoListener,
    /// The system refuses threads or descriptors.
    #[error("cannot start the NBD server: {0}")]
    System(#[from] io::Error),
}

/// What a server has done and is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Open connections, handshakes included.
    pub connections: usize,
    /// Over all sessions, open and ended.
    pub totals: SessionTotals,
}

/// What all threads of a server share.
pub(crate) struct Shared {
    pub(crate) directory: Arc<dyn ExportDirectory>,
    pub(crate) sessions: Sessions,
    pub(crate) pool: Pool,
    /// For requests that may have to wait for another server.
    pub(crate) far_pool: Pool,
    pub(crate) tls: TlsPolicy,
    pub(crate) handshake_timeout: Duration,
}

/// A running server; dropping it stops it without waiting for requests under way.
pub struct NbdServer {
    shared: Arc<Shared>,
    workers: Vec<Arc<WorkerHandle>>,
    threads: Vec<JoinHandle<()>>,
    stop_acceptor: OwnedFd,
    addresses: Vec<SocketAddr>,
}

impl NbdServer {
    /// Starts serving what `directory` knows.
    pub fn start(options: NbdOptions, directory: Arc<dyn ExportDirectory>) -> Result<Self, StartError> {
        if options.listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        for listener in &options.listeners {
            listener.set_nonblocking()?;
        }
        let addresses = options.listeners.iter().filter_map(Listener::local_addr).collect();
        let shared = Arc::new(Shared {
            directory,
            sessions: Sessions::default(),
            pool: Pool::start(options.pool_threads)?,
            far_pool: Pool::start(FAR_THREADS)?,
            tls: options.tls,
            handshake_timeout: options.handshake_timeout,
        });
        let stop_acceptor = eventfd(0, EventfdFlags::CLOEXEC).map_err(io::Error::from)?;
        let mut server = Self { shared, workers: Vec::new(), threads: Vec::new(), stop_acceptor, addresses };
        for number in 0..options.workers.max(1) {
            server.start_worker(number)?;
        }
        let acceptor = Acceptor {
            listeners: options.listeners,
            workers: server.workers.clone(),
            max_connections: options.max_connections,
            stop: server.stop_acceptor.try_clone()?,
        };
        server.spawn("nbd-accept".to_owned(), move || acceptor.run())?;
        Ok(server)
    }

    fn start_worker(&mut self, number: usize) -> io::Result<()> {
        let mailbox = Arc::new(Mailbox::new()?);
        let handle = Arc::new(WorkerHandle { mailbox, connections: AtomicUsize::new(0) });
        let worker_parts = (Arc::clone(&self.shared), Arc::clone(&handle));
        self.workers.push(handle);
        let (shared, handle) = worker_parts;
        self.spawn(format!("nbd-worker-{number}"), move || match Worker::new(shared, handle) {
            Ok(worker) => worker.run(),
            Err(error) => tracing::error!(%error, "a worker cannot start"),
        })
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name).spawn(body)?);
        Ok(())
    }

    /// The TCP addresses it listens on.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it has done so far.
    pub fn stats(&self) -> ServerStats {
        let count = |worker: &Arc<WorkerHandle>| worker.connections.load(Ordering::Relaxed);
        ServerStats {
            connections: self.workers.iter().map(count).sum(),
            totals: self.shared.sessions.totals(),
        }
    }

    /// The open sessions, in no order.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.shared.sessions.list()
    }

    /// Ends all sessions of an export soon. Requests that are under way are not answered; the
    /// disk itself must refuse what comes late (`BlockError::Closed`).
    pub fn close_export(&self, name: &str) {
        self.tell_workers(|| Message::CloseExport(name.to_owned()));
    }

    /// Takes no new connections and requests, waits up to `patience` until everything under way
    /// is answered, and ends.
    pub fn stop(mut self, patience: Duration) {
        self.shut_down(patience);
    }

    fn shut_down(&mut self, patience: Duration) {
        if self.threads.is_empty() {
            return;
        }
        let at = Instant::now() + patience;
        if let Err(error) = rustix::io::write(&self.stop_acceptor, &1u64.to_ne_bytes()) {
            tracing::error!(%error, "the acceptor cannot be told to stop");
        }
        self.tell_workers(|| Message::Stop(at));
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the NBD server has panicked");
            }
        }
        self.shared.pool.stop();
        self.shared.far_pool.stop();
    }

    fn tell_workers(&self, message: impl Fn() -> Message) {
        self.workers.iter().for_each(|worker| worker.mailbox.post(message()));
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        self.shut_down(Duration::ZERO);
    }
}
