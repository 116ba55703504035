//! The connections between servers: three for each pair, kept up, with TLS at both ends.
//!
//! Of two servers the one with the lesser name dials, once for each [`Class`], so that what a
//! device waits for never queues behind bulk. Who may connect is what the farm's records say at that
//! moment ([`Peer`]): a server that is not among them, or shows a certificate whose serial is not
//! the recorded one, is refused, and cut off when that changes.
//!
//! Requests carry an id; the parts of an answer come back through a channel. A peer that sends what
//! is no frame, or what does not belong there, loses that one connection, and [`LinkEvent`] says so.
//! Everything that waits is bounded: requests ([`MAX_REQUESTS`]), parts of an answer (what the
//! request may bring), frames to send. Who does not read is cut off, and starts anew.
//!
//! What it does not do: decide what is asked for (`pull`), check what comes (the store).

mod accept;
mod answer;
mod connection;
mod dial;
mod handshake;
mod heard;
mod table;

use crate::identity::{IdentityError, PeerIdentity, Serial, ServerIdentity, client, server};
use crate::join::JoinDesk;
use crate::peers::{PeerDown, PeerHandler, Peers};
use heard::Heard;
use model::Name;
use protocol::mesh::{Class, FarmId, Have, Request, Response};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use table::Table;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

/// The most requests of one end that wait for answers on one connection.
pub const MAX_REQUESTS: usize = 64;

/// Another server, as the farm's records know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: Name,
    /// Where it listens, `HOST:PORT`.
    pub address: String,
    /// The certificates that it may show: one, or two while it changes from one to the next.
    pub serials: Vec<Serial>,
}

/// Where to listen, and how patient to be.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// The farm; others are refused.
    pub farm: FarmId,
    /// How often this server has started.
    pub incarnation: u64,
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// How long an idle connection is silent before it says that it lives.
    pub alive: Duration,
    /// How long the other end may be silent, or not read, before the connection is given up.
    pub silence: Duration,
    /// How long connecting may take.
    pub handshake: Duration,
    /// How long after a failure it is tried again; doubles up to the second, and is spread by half.
    pub retry: (Duration, Duration),
}

impl LinkOptions {
    /// Alive every 5 s, silence 20 s, handshake 10 s, retries after 0.5 s to 10 s.
    pub fn new(farm: FarmId, incarnation: u64, listen: SocketAddr) -> Self {
        let s = Duration::from_secs;
        let retry = (Duration::from_millis(500), s(10));
        Self { farm, incarnation, listen, alive: s(5), silence: s(20), handshake: s(10), retry }
    }
}

/// What is worth telling an admin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The control connection to a peer is up.
    Up(Name),
    /// It is gone.
    Down(Name),
    /// A connection was refused, by us or by the other end.
    Refused {
        /// The peer's name, or its address where it has not shown one.
        who: String,
        /// Why.
        reason: String,
    },
    /// A peer sent what makes no sense, and lost that connection.
    Rubbish {
        /// Who.
        peer: Name,
        /// What the connection was for.
        class: Class,
        /// What was wrong.
        reason: String,
    },
}

/// Hears [`LinkEvent`]s; called on tokio's threads, and must not block.
pub type LinkObserver = Arc<dyn Fn(LinkEvent) + Send + Sync>;

/// The connections; they end when this is dropped.
pub struct Links {
    inner: Arc<Inner>,
    stop: watch::Sender<bool>,
    address: SocketAddr,
    /// There until this is dropped.
    background: Option<Runtime>,
}

/// What all tasks share.
struct Inner {
    options: LinkOptions,
    tls: RwLock<Arc<Tls>>,
    peers: watch::Receiver<Vec<Peer>>,
    handler: Arc<dyn PeerHandler>,
    desk: Option<Arc<dyn JoinDesk>>,
    observer: LinkObserver,
    table: Mutex<Table>,
    heard: mpsc::Sender<Heard>,
    /// Runs the connections for bulk.
    background: Handle,
    stop: watch::Receiver<bool>,
}

struct Tls {
    me: PeerIdentity,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Why no links could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The identity is of no use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address cannot be listened on.
    #[error(
        "cannot listen for other servers on {address}: {source}\nhint: is another program there? see mesh.listen in the configuration"
    )]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl Links {
    /// Listens, dials the peers that `peers` says, and keeps the connections up. `desk` lets new
    /// servers join through this one.
    pub async fn start(
        identity: &ServerIdentity,
        options: LinkOptions,
        peers: watch::Receiver<Vec<Peer>>,
        handler: Arc<dyn PeerHandler>,
        desk: Option<Arc<dyn JoinDesk>>,
        observer: LinkObserver,
    ) -> Result<Self, StartError> {
        let listener = TcpListener::bind(options.listen).await;
        let listen_error = |source| StartError::Listen { address: options.listen, source };
        let listener = listener.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let heard = heard::start(Arc::clone(&handler)).map_err(StartError::Thread)?;
        let (stop, stopped) = watch::channel(false);
        let (tls, table) = (RwLock::new(Arc::new(Tls::new(identity)?)), Mutex::default());
        let runtime = crate::background::runtime().map_err(StartError::Thread)?;
        let background = runtime.handle().clone();
        let inner =
            Inner { options, tls, peers, handler, desk, observer, table, heard, background, stop: stopped };
        let inner = Arc::new(inner);
        tokio::spawn(accept::run(Arc::clone(&inner), listener));
        tokio::spawn(dial::manage(Arc::clone(&inner)));
        Ok(Self { inner, stop, address, background: Some(runtime) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Uses a new certificate from the next connection on.
    pub fn set_identity(&self, identity: &ServerIdentity) -> Result<(), IdentityError> {
        let tls = Arc::new(Tls::new(identity)?);
        *self.inner.tls.write().expect(NO_PANIC) = tls;
        Ok(())
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.inner.table().close_all();
        // Its last connections end by themselves; waiting for them is not for an async context.
        if let Some(runtime) = self.background.take() {
            runtime.shutdown_background();
        }
    }
}

impl Peers for Links {
    fn connected(&self) -> Vec<Name> {
        self.inner.table().connected()
    }

    fn request(&self, peer: &Name, class: Class, request: Request) -> Result<Receiver<Response>, PeerDown> {
        let connection = self.inner.table().get(peer, class).ok_or(PeerDown)?;
        connection.request(request)
    }

    fn tell(&self, have: &Have) {
        let connections = self.inner.table().of_class(Class::Control);
        connections.iter().for_each(|connection| connection.tell(have));
    }
}

const NO_PANIC: &str = "no thread panics while it holds the links' state";

impl Tls {
    fn new(identity: &ServerIdentity) -> Result<Self, IdentityError> {
        Ok(Self { me: identity.peer().clone(), server: server(identity)?, client: client(identity)? })
    }
}

impl Inner {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().expect(NO_PANIC)
    }

    fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls.read().expect(NO_PANIC))
    }

    fn peer(&self, name: &Name) -> Option<Peer> {
        self.peers.borrow().iter().find(|peer| peer.name == *name).cloned()
    }

    fn say(&self, event: LinkEvent) {
        (self.observer)(event);
    }

    /// Waits until the links are dropped.
    async fn stopped(&self) {
        let mut stop = self.stop.clone();
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
