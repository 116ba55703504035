//! Pulling: the versions that this server must have are fetched, and what a device waits for first.
//!
//! What is asked of whom, and when, is decided by [`crate::engine`]; here is what drives it: one
//! engine behind one lock, events in, actions out (`books.rs`). A version goes through these: its
//! manifest and the pages that are not here are asked for (`open.rs`); from then on it can be read.
//! What other versions here have is copied; the rest is asked for as the engine says, and stored by
//! a few threads for each peer (`lane.rs`, `answer.rs`). [`Puller::fetch`] asks at once for what a
//! device waits for, on the device's own thread (`fetch.rs`). What came is made durable several
//! times a second, told to the peers, and when all is here the observer is told (`driver.rs`).
//! Limits, the schedule's slot, pauses and boot profiles come from outside (`policy.rs`).
//!
//! After a restart everything goes on from what the store says is missing.

mod answer;
mod books;
mod driver;
mod fetch;
mod lane;
mod open;
mod policy;
mod repair;
mod speed;

use crate::engine::{Engine, Event, Priority};
use crate::peers::{PeerHandler, Peers};
use crate::serve::Shares;
use lane::Lanes;
use model::{CHUNK_SIZE, ChunkIndex, Name, Root};
use protocol::mesh::{Have, Request, Response};
use speed::Speed;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::{ReceiveOptions, Receiving, Store, StoredVersion};

pub use crate::engine::{Reason, Slot};
pub use policy::Policy;
pub use repair::Mended;

/// The settings of the pulling.
#[derive(Clone, Copy, Debug)]
pub struct PullOptions {
    /// How long a device's read waits for a peer that has the chunk. Less than the 30 s after which
    /// kernels give a disk up.
    pub patience: Duration,
    /// How long a request may go without a part of its answer.
    pub silence: Duration,
    /// Bytes that are left free in a store.
    pub reserve_bytes: u64,
    /// Chunks in one bulk request, at most 256.
    pub bulk_chunks: usize,
}

impl Default for PullOptions {
    /// 20 s, 10 s, 256 MiB, 64 chunks (4 MiB).
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(20),
            silence: Duration::from_secs(10),
            reserve_bytes: 256 << 20,
            bulk_chunks: 64,
        }
    }
}

/// A version that this server must have.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where it comes to.
    pub store: Arc<Store>,
    /// The version that it was made from, where there is one.
    pub below: Option<Root>,
    /// [`Priority::Bulk`], or [`Priority::Checkpoint`] for a draft's last state.
    pub priority: Priority,
}

/// Hears what becomes of the pulling; called on its threads, and does not block for long.
pub trait PullObserver: Send + Sync {
    /// All of a version is here, durable, and unclaimed in its store.
    fn completed(&self, root: Root);

    /// A peer sent bytes that are not what they should be, and is not asked for this root for a while.
    fn bad_peer(&self, peer: &Name, root: Root, reason: &str);

    /// Requests to a peer have failed so many times in a row; it is asked again, ever less often.
    fn failing(&self, peer: &Name, root: Root, times: u32);

    /// A version does not come on because its store is full.
    fn no_room(&self, root: Root);
}

/// What is still to come of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The version.
    pub root: Root,
    /// Chunks that are missing; none while the manifest is not here.
    pub missing_chunks: Option<u32>,
    /// Bytes that are missing, in whole chunks.
    pub missing_bytes: Option<u64>,
    /// Bytes that came in a second, over the last seconds.
    pub bytes_per_s: u64,
    /// Why it is as it is; none while the manifest is being fetched.
    pub reason: Option<Reason>,
    /// Connected peers that have something of it.
    pub sources: Vec<Name>,
}

impl Backlog {
    /// How long it will take at this rate; none where nothing comes.
    pub fn eta(&self) -> Option<Duration> {
        let (bytes, rate) = (self.missing_bytes?, self.bytes_per_s);
        (rate > 0).then(|| Duration::from_secs(bytes.div_ceil(rate)))
    }
}

/// Why a chunk that a device waits for did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No peer that has it could be reached.
    #[error("no server that has chunk {chunk} could be reached for {waited_s} s")]
    NoSource {
        /// The first of the chunks.
        chunk: u32,
        /// How long was waited.
        waited_s: u64,
    },
    /// No peer that has the version could be reached.
    #[error("no server that has the version could be reached for {waited_s} s")]
    NoManifest {
        /// How long was waited.
        waited_s: u64,
    },
    /// The store is full.
    #[error("the store has no room for chunk {0}")]
    NoRoom(u32),
    /// The version is not wanted here, or its files cannot be written.
    #[error("{0}")]
    Failed(String),
}

/// Pulls until it is dropped.
pub struct Puller {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What all threads share.
struct Shared {
    shares: Shares,
    observer: Arc<dyn PullObserver>,
    options: PullOptions,
    /// When the engine was made: its time counts from here.
    began: Instant,
    /// Comes after the handler, for who connects peers needs one.
    peers: Mutex<Option<Arc<dyn Peers>>>,
    state: Mutex<State>,
    received_bytes: AtomicU64,
    changed: Condvar,
}

struct State {
    stopped: bool,
    engine: Engine,
    /// When the engine wants to be woken, in its time.
    wake: Duration,
    /// Who can be asked, and the threads that take in what they answer.
    lanes: BTreeMap<Name, Lanes>,
    /// How fast the links are, also of peers that are away.
    speeds: BTreeMap<Name, Speed>,
    wanted: BTreeMap<Root, Wanted>,
    coming: BTreeMap<Root, Coming>,
    /// Of these the manifest is being fetched.
    opening: BTreeSet<Root>,
    /// Boot profiles of versions that are wanted.
    profiles: BTreeMap<Root, Vec<ChunkIndex>>,
    policy: Policy,
    /// Peers that sent a manifest with another root, and when.
    liars: BTreeMap<(Name, Root), Instant>,
}

/// A version of which the manifest is here.
struct Coming {
    receiving: Arc<Receiving>,
    /// The version that it was made from, where all of it is here: chunks may continue its chunks.
    parent: Option<Arc<StoredVersion>>,
    priority: Priority,
    /// Bytes that came and are not in the rate yet.
    arrived_bytes: u64,
    bytes_per_s: u64,
    full: bool,
    /// Whether what other versions here have is being copied.
    copying: bool,
    /// How many chunks were missing when the peers were told last.
    told_missing: u32,
}

impl Puller {
    /// Starts to pull for the server `me` into `stores`, once [`Puller::connect`] says how peers are
    /// reached.
    pub fn start(
        me: Name,
        stores: Vec<Arc<Store>>,
        options: PullOptions,
        observer: Arc<dyn PullObserver>,
    ) -> std::io::Result<Self> {
        let shared = Shared {
            shares: Shares::new(stores),
            observer,
            options,
            began: Instant::now(),
            peers: Mutex::default(),
            state: Mutex::new(State::new(me, &options)),
            received_bytes: AtomicU64::new(0),
            changed: Condvar::new(),
        };
        let mut puller = Self { shared: Arc::new(shared), threads: Vec::new() };
        puller.spawn("mesh-driver", driver::run)?;
        puller.spawn("mesh-open", open::run)?;
        Ok(puller)
    }

    fn spawn(&mut self, name: &str, body: fn(&Arc<Shared>)) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(move || body(&shared))?);
        Ok(())
    }

    /// What hears and answers the peers.
    pub fn handler(&self) -> Arc<dyn PeerHandler> {
        Arc::new(Handler(Arc::clone(&self.shared)))
    }

    /// Says how peers are reached.
    pub fn connect(&self, peers: Arc<dyn Peers>) {
        *self.shared.peers.lock().expect(NO_PANIC) = Some(peers);
        self.shared.changed.notify_all();
    }

    /// Says which versions this server must have; those that are here already cost nothing. What
    /// is not among them any more and is here in part is left to the caller to delete.
    pub fn want(&self, wanted: BTreeMap<Root, Wanted>) {
        let mut state = self.shared.state();
        let gone: Vec<Root> =
            state.coming.keys().filter(|root| !wanted.contains_key(root)).copied().collect();
        gone.iter().for_each(|root| _ = state.coming.remove(root));
        state.profiles.retain(|root, _| wanted.contains_key(root));
        state.liars.retain(|(_, root), _| wanted.contains_key(root));
        state.wanted = wanted;
        drop(state);
        gone.into_iter().for_each(|root| self.shared.tell_engine(Event::Unwanted { root }));
        self.shared.changed.notify_all();
    }

    /// Says which chunks of a wanted version are fetched before the others, in this order: its boot
    /// profile. Replaces an earlier one; forgotten when the version is complete or unwanted.
    pub fn profile(&self, root: Root, chunks: Vec<ChunkIndex>) {
        let mut state = self.shared.state();
        if !state.wanted.contains_key(&root) {
            return;
        }
        state.profiles.insert(root, chunks.clone());
        drop(state);
        self.shared.tell_engine(Event::Profile { root, chunks });
    }

    /// Says what the limits, the schedule and the admins allow from now on.
    pub fn allow(&self, policy: Policy) {
        self.shared.allow(policy);
    }

    /// Bytes of chunks that came from peers since the start, as they travelled.
    pub fn received_bytes(&self) -> u64 {
        self.shared.received_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of chunks that peers were given since the start, as they travelled.
    pub fn sent_bytes(&self) -> u64 {
        self.shared.shares.sent_bytes()
    }

    /// The versions that are not all here, and why.
    pub fn backlog(&self) -> Vec<Backlog> {
        let state = self.shared.state();
        let lacking = state
            .wanted
            .iter()
            .filter(|(root, wanted)| state.coming.contains_key(root) || !wanted.store.has_whole(root));
        lacking.map(|(root, _)| backlog(&state, *root)).collect()
    }

    /// Waits, 5 s at most, until a version that this server must have can be opened in its store:
    /// until its manifest is here.
    pub fn open(&self, root: Root) -> Result<(), FetchError> {
        self.shared.open_on_demand(root)
    }

    /// Looks again at what is coming: seeds were added. Waits until what they have is copied; nothing
    /// of a version is asked of peers meanwhile, but what devices wait for.
    pub fn copy_seeds(&self) {
        for receiving in self.shared.all_coming() {
            self.shared.copy_again(&receiving);
        }
    }

    /// Waits until the chunks are here and can be read; asks the least busy peer that has them.
    pub fn fetch(&self, root: Root, chunks: &[ChunkIndex]) -> Result<(), FetchError> {
        self.shared.fetch_on_demand(root, chunks)
    }

    /// Has these chunks asked for before others.
    pub fn expect(&self, root: Root, chunks: &[ChunkIndex]) {
        let chunks = chunks[..chunks.len().min(MAX_EXPECTED)].to_vec();
        self.shared.tell_engine(Event::Soon { root, chunks });
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        state.lanes.clear();
        drop(state);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the mesh has panicked");
            }
        }
    }
}

const NO_PANIC: &str = "no thread panics while it holds the puller's state";
/// Who takes an answer in judges how long its peer is silent. The engine's own clock runs also while
/// this server's disk is slow, so it gives a request up only after so many times that.
const BACKSTOP: u32 = 6;
/// How long a peer is not asked for a version of which it sent the manifest of another.
const LIAR_PAUSE: Duration = Duration::from_secs(60);
/// The most chunks of one read-ahead that go before others: 16 MiB.
const MAX_EXPECTED: usize = 256;

fn backlog(state: &State, root: Root) -> Backlog {
    let coming = state.coming.get(&root);
    let sources = state.sources(root);
    let reason = match coming {
        Some(coming) if coming.full => Some(Reason::DiskFull),
        Some(_) => Some(state.engine.backlog(root).map_or(Reason::Working, |backlog| backlog.reason)),
        None if sources.is_empty() => Some(Reason::NoSource),
        None => None,
    };
    let missing_chunks = coming.map(|coming| coming.receiving.version().missing_count());
    let missing_bytes = missing_chunks.map(|chunks| u64::from(chunks) * u64::from(CHUNK_SIZE));
    let bytes_per_s = coming.map_or(0, |coming| coming.bytes_per_s);
    Backlog { root, missing_chunks, missing_bytes, bytes_per_s, reason, sources }
}

impl State {
    fn new(me: Name, options: &PullOptions) -> Self {
        let defaults = crate::engine::Options::default();
        let engine = crate::engine::Options {
            request_chunks: options.bulk_chunks.min(protocol::mesh::MAX_NAMED),
            window: defaults.window.max(options.bulk_chunks * 2),
            silence: options.silence * BACKSTOP,
            ..defaults
        };
        Self {
            stopped: false,
            engine: Engine::new(me, engine),
            wake: Duration::MAX,
            lanes: BTreeMap::new(),
            speeds: BTreeMap::new(),
            wanted: BTreeMap::new(),
            coming: BTreeMap::new(),
            opening: BTreeSet::new(),
            profiles: BTreeMap::new(),
            policy: Policy::default(),
            liars: BTreeMap::new(),
        }
    }

    /// Who has something of a root and never sent anything else.
    fn sources(&self, root: Root) -> Vec<Name> {
        let mut sources = self.engine.sources_of(root);
        let is_liar = |peer: &Name| {
            let lied = self.liars.get(&(peer.clone(), root));
            lied.is_some_and(|lied| lied.elapsed() < LIAR_PAUSE)
        };
        sources.retain(|peer| !is_liar(peer));
        sources
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.peers.lock().expect(NO_PANIC).clone()
    }

    fn tell(&self, have: &Have) {
        if let Some(peers) = self.peers() {
            peers.tell(have);
        }
    }

    fn receive_options(&self) -> ReceiveOptions {
        ReceiveOptions { reserve_bytes: self.options.reserve_bytes }
    }

    /// Waits until something changes, `longest` at most.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, longest: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, longest).expect(NO_PANIC).0
    }
}

/// The ear and mouth towards the peers.
struct Handler(Arc<Shared>);

impl PeerHandler for Handler {
    fn possession(&self) -> Vec<Have> {
        self.0.shares.possession()
    }

    fn heard(&self, peer: &Name, have: &Have) {
        self.0.heard(peer, have);
    }

    fn lost(&self, peer: &Name) {
        let mut state = self.0.state();
        state.lanes.remove(peer);
        state.liars.retain(|(liar, _), _| liar != peer);
        drop(state);
        self.0.tell_engine(Event::PeerDown { peer: peer.clone() });
        self.0.changed.notify_all();
    }

    fn answer(&self, request: &Request, send: &mut dyn FnMut(Response) -> bool) {
        self.0.shares.answer(request, send);
    }
}
