//! One listening port; one socket and one task for each transfer, all of them bounded.

use crate::log_budget::LogBudget;
use crate::neighbour;
use crate::observer::{BootEvent, BootObserver, BootStep};
use crate::socket::{BindError, open_on_address};
use bytes::Bytes;
use protocol::tftp::{
    End, ErrorCode, Outcome, Outgoing, Packet, PacketError, ReadRequest, Transfer, data_header, error,
};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// The port that clients ask at.
pub const PORT: u16 = 69;
/// Transfers at one time, by eye: a room of 500 devices fetches its loader in one second.
const TRANSFER_LIMIT: usize = 512;
/// The largest packet that a client sends here.
const DATAGRAM_LIMIT: usize = 2048;

/// What is served: names without a leading slash.
pub type TftpFiles = BTreeMap<String, Bytes>;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct TftpSettings {
    /// The address to listen on; DHCP names it as the next server.
    pub address: Ipv4Addr,
    /// The port: 69, or 0 in tests.
    pub port: u16,
    /// What is served.
    pub files: Arc<TftpFiles>,
}

impl TftpSettings {
    /// The usual port on `address`.
    pub fn new(address: Ipv4Addr, files: TftpFiles) -> Self {
        Self { address, port: PORT, files: Arc::new(files) }
    }
}

/// What a server has done since it started.
#[derive(Debug, Default)]
pub struct TftpCounters {
    /// Requests for files.
    pub requests: AtomicU64,
    /// Files sent whole.
    pub completed: AtomicU64,
    /// Transfers that the client ended; every PXE ROM does so once, for the size.
    pub aborted: AtomicU64,
    /// Transfers whose client fell silent.
    pub abandoned: AtomicU64,
    /// Requests that were refused, and packets that were none.
    pub refused: AtomicU64,
}

/// A running server; stops when told to or dropped.
#[derive(Debug)]
pub struct TftpServer {
    counters: Arc<TftpCounters>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl TftpServer {
    /// Opens the port and serves from then on.
    pub async fn start(settings: TftpSettings, observer: Arc<dyn BootObserver>) -> Result<Self, BindError> {
        let listen = SocketAddrV4::new(settings.address, settings.port);
        let socket = open_on_address(listen).await?;
        let address = socket.local_addr().map_err(|source| BindError::Io {
            port: settings.port,
            place: settings.address.to_string(),
            source,
        })?;
        let counters = Arc::new(TftpCounters::default());
        let (stop, stopped) = oneshot::channel();
        let service = Service {
            settings,
            observer,
            counters: Arc::clone(&counters),
            transfers: JoinSet::new(),
            by_client: HashMap::new(),
            log: LogBudget::new(),
        };
        let task = tokio::spawn(service.run(socket, stopped));
        Ok(Self { counters, address, stop: Some(stop), task })
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The server's counters.
    pub fn counters(&self) -> &TftpCounters {
        &self.counters
    }

    /// Closes the port and ends all transfers.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        drop((&mut self.task).await);
    }
}

impl Drop for TftpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The listening task's state; dropping it ends its transfers.
struct Service {
    settings: TftpSettings,
    observer: Arc<dyn BootObserver>,
    counters: Arc<TftpCounters>,
    transfers: JoinSet<SocketAddr>,
    by_client: HashMap<SocketAddr, AbortHandle>,
    log: LogBudget,
}

impl Service {
    async fn run(mut self, socket: UdpSocket, mut stopped: oneshot::Receiver<()>) {
        let mut buffer = [0; DATAGRAM_LIMIT];
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((len, client)) => self.on_datagram(&socket, &buffer[..len], client).await,
                    Err(error) => {
                        tracing::debug!(%error, "TFTP: cannot receive");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(ended) = self.transfers.join_next() => self.forget(ended.ok()),
            }
        }
    }

    /// A transfer ended by itself; one that was replaced has no entry of its own any more.
    fn forget(&mut self, client: Option<SocketAddr>) {
        if let Some(client) = client
            && self.by_client.get(&client).is_some_and(AbortHandle::is_finished)
        {
            self.by_client.remove(&client);
        }
    }

    async fn on_datagram(&mut self, socket: &UdpSocket, datagram: &[u8], client: SocketAddr) {
        let refusal = match Packet::parse(datagram) {
            Ok(Packet::Read(request)) => match self.begin(request, client) {
                Ok(()) => return,
                Err(refusal) => refusal,
            },
            Ok(Packet::Write) => (ErrorCode::AccessViolation, "this server only sends".to_owned()),
            // An error is never answered, or two servers could keep each other busy.
            Ok(Packet::Error { .. } | Packet::Unexpected) => return,
            Ok(Packet::Ack(_)) => (ErrorCode::UnknownTransfer, "no such transfer".to_owned()),
            Err(error @ PacketError::Mode) => (ErrorCode::Illegal, error.to_string()),
            Err(_) => (ErrorCode::Illegal, "malformed request".to_owned()),
        };
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        let (code, text) = refusal;
        if let Some(left_out) = self.log.take(Instant::now()) {
            tracing::info!(%client, left_out, "TFTP: refused: {text}");
        }
        if let Err(error) = socket.send_to(&error(code, &text), client).await {
            tracing::debug!(%client, %error, "TFTP: cannot answer");
        }
    }

    /// Starts a transfer; the newest request of an address and port replaces an older one.
    fn begin(&mut self, request: ReadRequest, client: SocketAddr) -> Result<(), (ErrorCode, String)> {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let name = request.file.trim_start_matches('/');
        let Some((name, content)) = self.settings.files.get_key_value(name) else {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
            return Err((ErrorCode::NotFound, format!("no file {shown:?} here")));
        };
        if let Some(older) = self.by_client.remove(&client) {
            older.abort();
        }
        if self.transfers.len() >= TRANSFER_LIMIT {
            return Err((ErrorCode::Busy, "too many transfers".to_owned()));
        }
        let running = Running {
            client,
            local: self.settings.address,
            file: name.clone(),
            content: content.clone(),
            observer: Arc::clone(&self.observer),
            counters: Arc::clone(&self.counters),
        };
        let handle = self.transfers.spawn(async move {
            if let Err(error) = running.run(request).await {
                tracing::debug!(%client, %error, "TFTP: transfer failed");
            }
            client
        });
        self.by_client.insert(client, handle);
        Ok(())
    }
}

/// One file on its way.
struct Running {
    client: SocketAddr,
    local: Ipv4Addr,
    file: String,
    content: Bytes,
    observer: Arc<dyn BootObserver>,
    counters: Arc<TftpCounters>,
}

impl Running {
    async fn run(self, request: ReadRequest) -> io::Result<()> {
        // A port of its own is the server's transfer identifier (RFC 1350 section 4); connected,
        // so the kernel drops what others send to it.
        let socket = UdpSocket::bind((self.local, 0)).await?;
        socket.connect(self.client).await?;
        let start = Instant::now();
        let now_ms = || start.elapsed().as_millis() as u64;
        let (mut transfer, mut outcome) = Transfer::begin(&request, self.content.len() as u64, now_ms());
        let mut buffer = [0; DATAGRAM_LIMIT];
        self.send(&socket, &outcome).await?;
        self.tell(BootStep::LoaderStarted { file: self.file.clone() });
        while outcome.end.is_none() {
            let due = start + Duration::from_millis(transfer.deadline_ms());
            outcome = tokio::select! {
                received = socket.recv(&mut buffer) => match Packet::parse(&buffer[..received?]) {
                    Ok(packet) => transfer.on_packet(&packet, now_ms()),
                    Err(_) => Outcome::default(),
                },
                () = tokio::time::sleep_until(due.into()) => transfer.on_time(now_ms()),
            };
            self.send(&socket, &outcome).await?;
        }
        if let Some(end) = outcome.end {
            self.ended(&end, start.elapsed());
        }
        Ok(())
    }

    async fn send(&self, socket: &UdpSocket, outcome: &Outcome) -> io::Result<()> {
        let mut datagram = Vec::new();
        for outgoing in &outcome.send {
            match outgoing {
                Outgoing::Packet(bytes) => socket.send(bytes).await?,
                Outgoing::Data { block, range } => {
                    datagram.clear();
                    datagram.extend(data_header(*block));
                    datagram.extend(&self.content[range.start as usize..range.end as usize]);
                    socket.send(&datagram).await?
                }
            };
        }
        Ok(())
    }

    fn ended(&self, end: &End, took: Duration) {
        let counter = match end {
            End::Complete => &self.counters.completed,
            End::Aborted { .. } => &self.counters.aborted,
            End::Abandoned => &self.counters.abandoned,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(client = %self.client, file = self.file, ?took, ?end, "TFTP: transfer ended");
        if *end == End::Complete {
            self.tell(BootStep::LoaderDone { file: self.file.clone() });
        }
    }

    fn tell(&self, step: BootStep) {
        if let Some(mac) = neighbour::mac_of(self.client.ip()) {
            self.observer.on_boot_event(BootEvent { mac, at: SystemTime::now(), step });
        }
    }
}

#[cfg(test)]
mod tests;
