//! One interface's DHCP: waits, decides, makes durable, answers.

use super::lease_file::{LeaseFile, LeaseFileError};
use super::router_hint::RouterHint;
use crate::log_budget::LogBudget;
use crate::observer::{BootEvent, BootObserver, BootStep};
use crate::socket::{BindError, InterfaceSocket};
use protocol::dhcp::{
    Answer, Arrival, BOOT_PORT, CLIENT_PORT, ClientKind, Destination, DhcpConfig, Lease, LeaseChange, Leases,
    Mode, PoolError, Port, Request, SERVER_PORT, Why, decide,
};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The largest datagram that is looked at.
const DATAGRAM_LIMIT: usize = 4096;

/// What one server is told.
#[derive(Clone, Debug)]
pub struct DhcpSettings {
    /// The network interface.
    pub interface: String,
    /// Mode, own address, boot information.
    pub config: DhcpConfig,
    /// Where leases are kept; unused by a proxy.
    pub lease_file: PathBuf,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The pool makes no sense.
    #[error("DHCP on {interface}: {source}")]
    Pool {
        /// The interface.
        interface: String,
        /// What is wrong with it.
        source: PoolError,
    },
    /// The leases cannot be read.
    #[error(transparent)]
    Leases(#[from] LeaseFileError),
}

/// What a server has done since it started.
#[derive(Debug, Default)]
pub struct DhcpCounters {
    /// Datagrams that were requests.
    pub requests: AtomicU64,
    /// Answers sent.
    pub answers: AtomicU64,
    /// Datagrams that were none.
    pub malformed: AtomicU64,
    /// Answers or leases that the system refused to send or to store.
    pub failures: AtomicU64,
}

/// A running server; stops when told to or dropped.
#[derive(Debug)]
pub struct DhcpServer {
    counters: Arc<DhcpCounters>,
    leases: Arc<Mutex<Leases>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl DhcpServer {
    /// Opens ports 67 and 4011 on the interface and answers from then on; must be called within a
    /// tokio runtime. With [`Mode::Off`] nothing is opened.
    pub fn start(settings: DhcpSettings, observer: Arc<dyn BootObserver>) -> Result<Self, StartError> {
        let counters = Arc::new(DhcpCounters::default());
        let (stop, stopped) = oneshot::channel();
        let (file, leases) = open_leases(&settings)?;
        let shared = Arc::new(Mutex::new(leases.clone()));
        let handle = |task| Self {
            counters: Arc::clone(&counters),
            leases: Arc::clone(&shared),
            stop: Some(stop),
            task,
        };
        if let Mode::Off = settings.config.mode {
            return Ok(handle(tokio::spawn(async move { drop(stopped.await) })));
        }
        let open = |port| InterfaceSocket::open(&settings.interface, settings.config.server, port);
        let (server, boot) = (open(SERVER_PORT)?, open(BOOT_PORT)?);
        let service = Service {
            router_hint: RouterHint::open(&settings.interface),
            settings,
            observer,
            counters: Arc::clone(&counters),
            shared: Arc::clone(&shared),
            leases,
            file: Arc::new(Mutex::new(file)),
            log: LogBudget::new(),
        };
        Ok(handle(tokio::spawn(service.run(server, boot, stopped))))
    }

    /// The server's counters.
    pub fn counters(&self) -> &DhcpCounters {
        &self.counters
    }

    /// The lease table as it is now.
    pub fn leases(&self) -> Leases {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the ports and waits until the last answer is out.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        drop((&mut self.task).await);
    }
}

impl Drop for DhcpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The leases of a full server; other modes have none.
fn open_leases(settings: &DhcpSettings) -> Result<(Option<LeaseFile>, Leases), StartError> {
    let Mode::Full(pool) = &settings.config.mode else { return Ok((None, Leases::default())) };
    pool.check(settings.config.server)
        .map_err(|source| StartError::Pool { interface: settings.interface.clone(), source })?;
    let (file, leases) = LeaseFile::open(&settings.lease_file)?;
    Ok((Some(file), leases))
}

/// The task's state.
struct Service {
    settings: DhcpSettings,
    observer: Arc<dyn BootObserver>,
    counters: Arc<DhcpCounters>,
    /// A copy for those who ask for the table.
    shared: Arc<Mutex<Leases>>,
    leases: Leases,
    file: Arc<Mutex<Option<LeaseFile>>>,
    router_hint: RouterHint,
    log: LogBudget,
}

impl Service {
    async fn run(
        mut self,
        server: InterfaceSocket,
        boot: InterfaceSocket,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let (mut server_buffer, mut boot_buffer) = ([0; DATAGRAM_LIMIT], [0; DATAGRAM_LIMIT]);
        loop {
            let (port, received) = tokio::select! {
                _ = &mut stopped => return,
                received = server.receive(&mut server_buffer) => (Port::Server, received),
                received = boot.receive(&mut boot_buffer) => (Port::Boot, received),
            };
            let (socket, buffer) = match port {
                Port::Server => (&server, &server_buffer),
                Port::Boot => (&boot, &boot_buffer),
            };
            match received {
                Ok((len, source)) => {
                    self.serve(socket, &buffer[..len], Arrival { port, source }).await;
                }
                // An interface that went away: wait for it instead of spinning on the error.
                Err(error) => {
                    self.failure(&format!("cannot receive: {error}"));
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn serve(&mut self, socket: &InterfaceSocket, datagram: &[u8], arrival: Arrival) {
        let request = match Request::parse(datagram) {
            Ok(request) => request,
            Err(error) => {
                self.counters.malformed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(source = %arrival.source, %error, "not a DHCP request");
                return;
            }
        };
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let answer = decide(&request, arrival, &self.settings.config, &self.leases, now_s());
        self.explain(&request, &answer.why);
        self.store(answer.change).await;
        self.send(socket, &request, answer).await;
    }

    /// Applies a change and makes it durable. A disk that fails does not stop devices from
    /// booting: the table in memory is right, and the next change writes all of it again.
    async fn store(&mut self, change: LeaseChange) {
        if change == LeaseChange::None {
            return;
        }
        self.leases.apply(change);
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.leases);
        if matches!(change, LeaseChange::Offer(..)) {
            return;
        }
        let (file, leases) = (Arc::clone(&self.file), self.leases.clone());
        let written = tokio::task::spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.as_mut().map_or(Ok(()), |file| file.record(change, &leases))
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failure(&error.to_string()),
            Err(error) => self.failure(&format!("storing a lease: {error}")),
        }
    }

    async fn send(&mut self, socket: &InterfaceSocket, request: &Request, answer: Answer) {
        let Some(reply) = answer.reply else { return };
        let to = match reply.to {
            Destination::Unicast(to) => to,
            Destination::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
        };
        if let Err(error) = socket.send(&reply.bytes, to).await {
            self.failure(&format!("cannot answer {} at {to}: {error}", request.mac));
            return;
        }
        self.counters.answers.fetch_add(1, Ordering::Relaxed);
        if let ClientKind::Ipxe(_) = request.client {
            self.router_hint.send(request.mac);
        }
        let address = match answer.change {
            LeaseChange::Offer(_, Lease { address, .. }) | LeaseChange::Bind(_, Lease { address, .. }) => {
                Some(address)
            }
            _ => None,
        };
        self.observer.on_boot_event(BootEvent {
            mac: request.mac,
            at: SystemTime::now(),
            step: BootStep::Dhcp { client: request.client, address },
        });
    }

    fn explain(&mut self, request: &Request, why: &Why) {
        let interface = &self.settings.interface;
        let is_news = !matches!(why, Why::Off | Why::NotBooting | Why::NotForUs | Why::OtherServer(_));
        if is_news && let Some(left_out) = self.log.take(Instant::now()) {
            tracing::info!(interface, mac = %request.mac, client = %request.client, left_out, "DHCP: {why}");
        } else {
            tracing::debug!(interface, mac = %request.mac, client = %request.client, "DHCP: {why}");
        }
    }

    fn failure(&mut self, what: &str) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.log.take(Instant::now()) {
            tracing::error!(interface = self.settings.interface, left_out, "DHCP: {what}");
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
