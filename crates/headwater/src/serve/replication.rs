//! What this server's stores must have and lack comes from the other servers.
//!
//! The farm's records say what must be here ([`wanted`]) and what may come when ([`policy`]); the
//! mesh pulls it; when all of a version
//! is here it is claimed and the record of the copy is written, on which promotions rely. A device
//! that reads a version which is here in part waits for its chunks only ([`PeerChunks`]).
//!
//! What it does not do: reach the peers (whoever does calls [`Replication::connect`]).

mod former;
mod image;
mod order;
mod policy;
mod propagation;
mod routes;
mod settings;
mod stall;
mod wanted;

use super::farm::FarmHandle;
use super::shutdown::Shutdown;
use super::stores::Stores;
use anyhow::{Context, Result};
use disk::{ChunkSource, FetchError};
use farm::{EventKind, NewEvent};
use mesh::{PeerHandler, Peers, PullObserver, PullOptions, Puller};
use model::{ChunkIndex, Name, Root};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(super) use image::FetchedImage;
pub(super) use routes::{routes, standing};

/// How long after a record could not be written it is tried again: promotions wait for it.
const REPORT_AGAIN: Duration = Duration::from_secs(2);

/// The pulling, and who is connected.
pub(crate) struct Replication {
    puller: Arc<Puller>,
    peers: Mutex<Option<Arc<dyn Peers>>>,
    heard: Mutex<Option<UnboundedReceiver<Heard>>>,
}

/// What the pulling tells the task that writes records.
enum Heard {
    /// All of a version has come.
    Completed(Root),
    /// A server sent other bytes, and why they are others.
    WrongBytes { peer: Name, root: Root, reason: String },
}

/// Tells the task that writes records; at most one message for each version that came, and for each
/// peer that lies about one.
struct Observer(UnboundedSender<Heard>);

impl PullObserver for Observer {
    fn completed(&self, root: Root) {
        tracing::info!(root = %root.short(), "all of a version has come from other servers");
        // Where nobody listens the server stops; the next start finds the version.
        let _ = self.0.send(Heard::Completed(root));
    }

    fn bad_peer(&self, peer: &Name, root: Root, reason: &str) {
        tracing::error!(%peer, root = %root.short(), reason, "a server sends what is not what it should be; it is not asked for this version again");
        let (peer, reason) = (peer.clone(), reason.to_owned());
        let _ = self.0.send(Heard::WrongBytes { peer, root, reason });
    }

    fn failing(&self, peer: &Name, root: Root, times: u32) {
        tracing::warn!(%peer, root = %root.short(), times, "a server does not answer; it is asked again, ever less often");
    }

    fn no_room(&self, root: Root) {
        tracing::warn!(root = %root.short(), "a version does not come on: its store has no room beside the reserve");
    }
}

impl Replication {
    /// Begins; nothing comes before records ask for it and peers are connected.
    pub(crate) fn start(server: &Name, stores: &Stores) -> Result<Arc<Self>> {
        let (sender, heard) = unbounded_channel();
        let shares = stores.all().map(|share| Arc::clone(&share.store)).collect();
        let observer = Arc::new(Observer(sender));
        let puller = Puller::start(server.clone(), shares, PullOptions::default(), observer);
        let puller = Arc::new(puller.context("the threads of the mesh cannot be started")?);
        Ok(Arc::new(Self { puller, peers: Mutex::default(), heard: Mutex::new(Some(heard)) }))
    }

    /// What hears and answers the other servers.
    pub(crate) fn handler(&self) -> Arc<dyn PeerHandler> {
        self.puller.handler()
    }

    /// Says how the other servers are reached.
    pub(crate) fn connect(&self, peers: Arc<dyn Peers>) {
        *self.peers.lock().expect("no holder of this lock panics") = Some(Arc::clone(&peers));
        self.puller.connect(peers);
    }

    /// How the other servers are reached; none in a farm of one.
    pub(crate) fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.peers.lock().expect("no holder of this lock panics").clone()
    }

    /// The other servers that are connected.
    pub(crate) fn connected(&self) -> Vec<Name> {
        self.peers().map(|peers| peers.connected()).unwrap_or_default()
    }

    /// Fetches what is damaged in a store from the other servers. Blocking.
    pub(crate) fn repair(&self, store: &store::Store) -> Vec<mesh::Mended> {
        self.puller.repair(store)
    }

    /// Copies what adopted files have of what is coming. Blocking.
    pub(crate) fn copy_seeds(&self) {
        self.puller.copy_seeds();
    }

    /// Where devices' missing chunks come from.
    pub(crate) fn source(&self) -> Arc<dyn ChunkSource> {
        Arc::new(PeerChunks(Arc::clone(&self.puller)))
    }
}

/// Follows the records: wants what they name, claims and reports what has come, deletes what they
/// do not name any more.
///
/// Four loops, so that a new version is wanted at once, whatever the others wait for.
pub(super) async fn run(
    replication: Arc<Replication>,
    stores: Stores,
    farm: Arc<FarmHandle>,
    shutdown: Shutdown,
) {
    let taken = replication.heard.lock().expect("no holder of this lock panics").take();
    let heard = taken.expect("it is run once");
    tokio::select! {
        () = want(&replication, &stores, &farm) => (),
        () = write_down(&stores, &farm, heard) => (),
        () = let_go(&stores, &farm) => (),
        () = stall::run(&replication, &farm) => (),
        () = shutdown.wait() => (),
    }
}

async fn want(replication: &Arc<Replication>, stores: &Stores, farm: &Arc<FarmHandle>) {
    let (mut changes, mut order) = (farm.changes(), order::Order::default());
    loop {
        changes.mark_unchanged();
        let (pulling, shares, view) = (Arc::clone(replication), stores.clone(), farm.view());
        let server = farm.server().clone();
        let told = tokio::task::spawn_blocking(move || {
            // First what is allowed: nothing of a version comes that is paused already.
            let (policy, until) = policy::policy(&view);
            pulling.puller.allow(policy);
            let wanted = wanted::wanted(&view, &shares, &server);
            pulling.puller.want(wanted.clone());
            let is_coming =
                |root: &Root| wanted.get(root).is_some_and(|wanted| !wanted.store.has_whole(root));
            order.tell(&view, is_coming, |root, chunks| pulling.puller.profile(root, chunks));
            (order, until)
        });
        let until;
        (order, until) = told.await.expect("saying what is wanted does not panic");
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(until) => (),
        }
    }
}

async fn write_down(stores: &Stores, farm: &FarmHandle, mut heard: UnboundedReceiver<Heard>) {
    let mut owed = false;
    loop {
        let next = tokio::select! {
            next = heard.recv() => match next {
                Some(next) => Some(next),
                None => return,
            },
            () = tokio::time::sleep(REPORT_AGAIN), if owed => None,
        };
        match next {
            Some(Heard::Completed(root)) => {
                claim(stores, farm, root);
                owed = !report(stores, farm, owed).await;
            }
            None => owed = !report(stores, farm, owed).await,
            Some(Heard::WrongBytes { peer, root, reason }) => {
                let root = root.short();
                let message = format!(
                    "server {peer} sends wrong bytes of root {root} ({reason}): none of them is kept, and \
                     it is not asked for this root again; look at its memory and disks"
                );
                farm.event(NewEvent::new(EventKind::PeerWrongBytes, format!("{peer}/{root}"), message));
            }
        }
    }
}

/// What was wanted a moment ago and is again begins anew.
async fn let_go(stores: &Stores, farm: &Arc<FarmHandle>) {
    let mut changes = farm.changes();
    let mut former = former::Former::default();
    loop {
        changes.mark_unchanged();
        let (shares, view, server) = (stores.clone(), farm.view(), farm.server().clone());
        let gone = tokio::task::spawn_blocking(move || {
            wanted::let_go(&view, &shares, &wanted::wanted(&view, &shares, &server));
        });
        gone.await.expect("deleting answers with an error");
        former.let_go(stores, farm).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A version that came is one like any other.
fn claim(stores: &Stores, farm: &FarmHandle, root: Root) {
    for share in stores.all().filter(|share| share.store.unclaimed().contains(&root)) {
        if !farm.view().names(root) {
            continue;
        }
        if let Err(error) = share.store.claim(&root) {
            tracing::error!(root = %root.short(), %error, "a version that came cannot be claimed");
        }
    }
}

/// Has the records say what is complete here; false where that must be tried again. Only the first
/// failure in a row is worth a line.
async fn report(stores: &Stores, farm: &FarmHandle, is_again: bool) -> bool {
    match stores.report_copies(farm).await {
        Ok(()) => true,
        Err(error) if is_again => {
            tracing::debug!(%error, "what is complete here is not written down yet");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "what is complete here cannot be written down now; it is tried again");
            false
        }
    }
}

/// Chunks from the other servers, for disks.
struct PeerChunks(Arc<Puller>);

impl ChunkSource for PeerChunks {
    fn open(&self, root: Root) -> Result<(), FetchError> {
        self.0.open(root).map_err(fetch_error)
    }

    fn fetch(&self, root: Root, chunks: &[ChunkIndex]) -> Result<(), FetchError> {
        self.0.fetch(root, chunks).map_err(fetch_error)
    }

    fn expect(&self, root: Root, chunks: &[ChunkIndex]) {
        self.0.expect(root, chunks);
    }
}

fn fetch_error(error: mesh::FetchError) -> FetchError {
    match error {
        mesh::FetchError::NoSource { chunk, waited_s } => FetchError::NoSource { chunk, waited_s },
        mesh::FetchError::NoManifest { waited_s } => FetchError::NoManifest { waited_s },
        mesh::FetchError::NoRoom(chunk) => FetchError::NoRoom { chunk },
        mesh::FetchError::Failed(reason) => FetchError::Failed(reason),
    }
}
