//! The brain of replication: what to ask of whom, and when. A state machine without sockets, clock
//! or files: [`Engine::handle`] takes the time and an [`Event`] and returns [`Action`]s.
//!
//! Whoever drives it keeps three promises: it tells each chunk that is stored as
//! [`Event::Arrived`] once (after it was verified), it hands in [`Event::Tick`] at
//! [`Action::WakeAt`], and it tells [`Event::PeerUp`] before anything else of a peer. What the
//! engine does in turn:
//!
//! - No chunk is asked for while it is asked for already.
//! - Strictly by [`Priority`]: while anything more urgent could be asked for but for room or a
//!   limit, nothing less urgent is.
//! - Never more than [`Options::window`] chunks wait at one peer, and only
//!   [`Options::window_beside_devices`] while devices wait for others; never more bytes a second
//!   than the limits allow (what came compressed counts as what it was on the wire).
//! - Several receivers of one root share the work: each fetches its own part from whoever has it
//!   all, and the rest from each other. One that is slow is not waited for.
//! - A silent request is given up and asked again elsewhere, with growing pauses; a peer that sends
//!   wrong bytes is not asked for that root for a minute, or until it has been away; with each
//!   further time for twice as long, up to an hour.
//! - As long as one source stays, every wanted root is completed.
//!
//! What it does not do: bytes, manifests and possession announcements are the driver's.

mod ask;
mod backlog;
mod bucket;
mod chunk_set;
mod event;
mod limits;
#[cfg(test)]
mod tests;
mod work;

pub use backlog::{Backlog, Reason};
pub use chunk_set::ChunkSet;
pub use event::{Action, Event, Hold, Priority, Report, RequestId, Slot};

use limits::Limits;
use model::{CHUNK_SIZE, ChunkIndex, Name, Root};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use work::{Has, Work};

const CHUNK_BYTES: u64 = CHUNK_SIZE as u64;
/// The most roots that are remembered for one peer; what it says beyond that is ignored.
const MAX_ROOTS: usize = 16_384;
/// After so many failures in a row admins are told.
const REPORTED_FAILURES: u32 = 5;

/// The settings of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Chunks that may be asked of one peer at a time; those that devices wait for come on top.
    pub window: usize,
    /// The same while devices wait: what they wait for stands in line behind these at the processors
    /// and disks of both ends.
    pub window_beside_devices: usize,
    /// Chunks that devices wait for and that may be asked of one peer at a time.
    pub on_demand_window: usize,
    /// Chunks in one request.
    pub request_chunks: usize,
    /// How long a request may go without a part of its answer.
    pub silence: Duration,
}

impl Default for Options {
    /// 128 chunks (8 MiB), 8 (512 KiB), 64, 64, 10 s.
    fn default() -> Self {
        Self {
            window: 128,
            window_beside_devices: 8,
            on_demand_window: 64,
            request_chunks: 64,
            silence: Duration::from_secs(10),
        }
    }
}

/// Requests that may wait at one peer, besides those that devices wait for: under a limit they are
/// small, and a link takes 64.
const MAX_REQUESTS: usize = 32;
/// How long after a device has waited another one, or its next read, is counted on.
const DEVICES_WAIT: Duration = Duration::from_millis(250);

/// A peer that can be asked.
#[derive(Debug, Default)]
struct Peer {
    has: BTreeMap<Root, Has>,
    /// Chunks asked of it that devices wait for.
    waiting: usize,
    /// Other chunks asked of it.
    in_flight: usize,
    /// Requests for those others.
    open_requests: usize,
}

/// A request that is not answered fully.
#[derive(Debug)]
struct Request {
    peer: Name,
    root: Root,
    priority: Priority,
    open: BTreeSet<ChunkIndex>,
    deadline: Duration,
    /// Whether its bytes were taken from what the schedule's slot allows.
    by_slot: bool,
}

/// The replication of one server.
#[derive(Debug)]
pub struct Engine {
    own: Name,
    options: Options,
    now: Duration,
    peers: BTreeMap<Name, Peer>,
    works: BTreeMap<Root, Work>,
    requests: BTreeMap<RequestId, Request>,
    limits: Limits,
    slot: Slot,
    holds: BTreeMap<Root, Hold>,
    disk_full: bool,
    paused: bool,
    last_request: u64,
    last_order: u64,
    /// When a device last had to wait.
    last_need: Option<Duration>,
    next_wake: Duration,
    told_wake: Duration,
    actions: Vec<Action>,
}

impl Engine {
    /// An engine of the server `own` that wants nothing yet.
    pub fn new(own: Name, options: Options) -> Self {
        Self {
            own,
            options,
            now: Duration::ZERO,
            peers: BTreeMap::new(),
            works: BTreeMap::new(),
            requests: BTreeMap::new(),
            limits: Limits::default(),
            slot: Slot::Open,
            holds: BTreeMap::new(),
            disk_full: false,
            paused: false,
            last_request: 0,
            last_order: 0,
            last_need: None,
            next_wake: Duration::MAX,
            told_wake: Duration::MAX,
            actions: Vec::new(),
        }
    }

    /// Takes in what happened; returns what is to be done, in order. `now` is the time since the
    /// engine was made; one that lies in the past counts as the latest.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        self.limits.fill(self.now);
        let is_tick = event == Event::Tick;
        self.apply(event);
        self.give_up_silent();
        if is_tick {
            self.end_courtesies();
        }
        self.next_wake = Duration::MAX;
        self.ask();
        self.tell_wake();
        std::mem::take(&mut self.actions)
    }

    /// The wanted roots that are not complete.
    pub fn wanted(&self) -> impl Iterator<Item = Root> + '_ {
        self.works.keys().copied()
    }

    /// Whether a chunk of a wanted root is known to be missing.
    pub fn is_missing(&self, root: Root, chunk: ChunkIndex) -> bool {
        self.works.get(&root).is_some_and(|work| work.missing.contains(chunk))
    }

    /// The peers that have something of a root, wanted or not, and did not send wrong bytes of it lately.
    pub fn sources_of(&self, root: Root) -> Vec<Name> {
        self.sources(root).map(|(name, _)| name.clone()).collect()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Wanted { root, missing, priority } => self.wanted_root(root, missing, priority),
            Event::Profile { root, chunks } => self.profile(root, chunks),
            Event::Soon { root, chunks } => self.soon(root, chunks),
            Event::Lacking { root, chunks } => self.lacking(root, &chunks),
            Event::Hold { root, why: Some(why) } => _ = self.holds.insert(root, why),
            Event::Hold { root, why: None } => _ = self.holds.remove(&root),
            Event::Unwanted { root } => self.unwanted(root),
            Event::PeerUp { peer } => _ = self.peers.entry(peer).or_default(),
            Event::PeerDown { peer } => self.peer_down(&peer),
            Event::HasAll { peer, root } => self.has_all(&peer, root),
            Event::HasPart { peer, root, first, bits } => self.has_part(&peer, root, first, &bits),
            Event::HasNone { peer, root } => self.has_none(&peer, root),
            Event::Arrived { root, chunk, sent_bytes } => self.arrived(root, chunk, sent_bytes),
            Event::Wrong { root, peer } => self.wrong(root, peer),
            Event::NotThere { request, chunks } => self.not_there(request, &chunks),
            Event::Failed { request } => self.failed(request),
            Event::Unstored { request } => self.unstored(request),
            Event::NeedNow { root, chunks } => self.need_now(root, chunks),
            Event::DiskFull => self.disk_full = true,
            Event::DiskFree => self.disk_full = false,
            Event::Limit { peer, priority, bytes_per_s } => {
                self.limits.set(self.now, peer, priority, bytes_per_s);
            }
            Event::Slot(slot) => self.enter_slot(slot),
            Event::Paused { root } => self.set_paused(root, true),
            Event::Resumed { root } => self.set_paused(root, false),
            Event::Forced { root, forced } => {
                _ = self.works.get_mut(&root).map(|work| work.forced = forced);
            }
            Event::Tick => {}
        }
    }

    fn wanted_root(&mut self, root: Root, missing: ChunkSet, priority: Priority) {
        if self.works.contains_key(&root) {
            let gone: Vec<_> = self.works[&root].flying.iter().filter(|c| !missing.contains(*c)).collect();
            self.cancel(root, &gone);
            let work = self.works.get_mut(&root).expect("looked up above");
            (work.missing, work.priority) = (missing, priority);
            work.barren.clear();
        } else {
            self.last_order += 1;
            let start = ask::score(root, &self.own, u64::MAX);
            self.works.insert(root, Work::new(missing, priority, self.last_order, start));
        }
        self.complete_if_done(root);
    }

    fn profile(&mut self, root: Root, chunks: Vec<ChunkIndex>) {
        if let Some(work) = self.works.get_mut(&root) {
            let mut seen = BTreeSet::new();
            let useful = |chunk: &ChunkIndex| work.missing.contains(*chunk) && seen.insert(*chunk);
            work.profile = chunks.into_iter().filter(useful).collect();
            work.barren.clear();
        }
    }

    fn soon(&mut self, root: Root, chunks: Vec<ChunkIndex>) {
        let Some(work) = self.works.get_mut(&root) else { return };
        let before = std::mem::take(&mut work.profile);
        self.profile(root, chunks.into_iter().chain(before).collect());
    }

    fn lacking(&mut self, root: Root, chunks: &[ChunkIndex]) {
        let Some(work) = self.works.get_mut(&root) else { return };
        chunks.iter().for_each(|chunk| work.missing.insert(*chunk));
        work.barren.clear();
    }

    fn unwanted(&mut self, root: Root) {
        self.holds.remove(&root);
        let Some(work) = self.works.get(&root) else { return };
        let flying: Vec<_> = work.flying.iter().collect();
        self.cancel(root, &flying);
        self.works.remove(&root);
    }

    fn peer_down(&mut self, name: &Name) {
        let theirs: Vec<_> =
            self.requests.iter().filter(|(_, r)| r.peer == *name).map(|(id, _)| *id).collect();
        theirs.into_iter().for_each(|id| _ = self.end(id));
        let now = self.now;
        self.works.values_mut().for_each(|work| work.end_ban(name, now));
        for root in self.peers.remove(name).map(|peer| peer.has).unwrap_or_default().into_keys() {
            self.works.get_mut(&root).map(|work| work.away.insert(name.clone()));
        }
    }

    fn has_all(&mut self, peer: &Name, root: Root) {
        self.heard(peer, root);
        if let Some(has) = self.possession(peer, root) {
            *has = Has::All;
        }
    }

    fn has_part(&mut self, peer: &Name, root: Root, first: ChunkIndex, bits: &[u8]) {
        self.heard(peer, root);
        match self.possession(peer, root) {
            Some(Has::Part(set)) => {
                let before = set.count();
                set.replace(first, bits);
                let (has_more, now) = (set.count() > before, self.now);
                if let Some(work) = self.works.get_mut(&root).filter(|_| has_more) {
                    work.others_come_on(now);
                }
            }
            Some(has) => {
                let mut set = ChunkSet::empty(0);
                set.replace(first, bits);
                *has = Has::Part(set);
            }
            None => {}
        }
    }

    fn has_none(&mut self, peer: &Name, root: Root) {
        self.heard(peer, root);
        self.peers.get_mut(peer).map(|peer| peer.has.remove(&root));
    }

    fn heard(&mut self, peer: &Name, root: Root) {
        if let Some(work) = self.works.get_mut(&root) {
            work.away.remove(peer);
            work.barren.clear();
        }
    }

    fn possession(&mut self, peer: &Name, root: Root) -> Option<&mut Has> {
        let has = &mut self.peers.get_mut(peer)?.has;
        if has.len() >= MAX_ROOTS && !has.contains_key(&root) {
            return None;
        }
        Some(has.entry(root).or_insert_with(|| Has::Part(ChunkSet::empty(0))))
    }

    fn arrived(&mut self, root: Root, chunk: ChunkIndex, sent_bytes: u32) {
        let Some(work) = self.works.get_mut(&root) else { return };
        if !work.arrive(chunk) {
            return;
        }
        if let Some(id) = self.request_of(root, chunk) {
            self.heard_of_request(id);
            self.give_back(id, CHUNK_BYTES.saturating_sub(u64::from(sent_bytes)));
            self.take_out(root, chunk, id);
        }
        self.complete_if_done(root);
    }

    /// A peer that answers is not silent: what was asked of it behind this request waits its turn.
    fn heard_of_request(&mut self, id: RequestId) {
        let (peer, urgent) =
            (self.requests[&id].peer.clone(), self.requests[&id].priority == Priority::OnDemand);
        let deadline = self.now + self.options.silence;
        let same = |r: &&mut Request| r.peer == peer && (r.priority == Priority::OnDemand) == urgent;
        self.requests.values_mut().filter(same).for_each(|request| request.deadline = deadline);
        self.works.get_mut(&self.requests[&id].root).map(|work| work.troubles.remove(&peer));
    }

    fn complete_if_done(&mut self, root: Root) {
        if self.works.get(&root).is_some_and(|work| work.missing.is_empty()) {
            self.works.remove(&root);
            self.actions.push(Action::Completed(root));
        }
    }

    fn wrong(&mut self, root: Root, peer: Name) {
        let Some(work) = self.works.get_mut(&root) else { return };
        if !work.ban(&peer, self.now) {
            return;
        }
        let of_peer = |r: &Request| r.peer == peer && r.root == root;
        let theirs: Vec<_> = self.requests.iter().filter(|(_, r)| of_peer(r)).map(|(id, _)| *id).collect();
        for id in theirs {
            let chunks = self.end(id);
            self.actions.push(Action::Cancel { request: id, chunks });
        }
        self.actions.push(Action::Report(Report::BadPeer { peer, root }));
    }

    fn not_there(&mut self, id: RequestId, chunks: &[ChunkIndex]) {
        let Some(request) = self.requests.get(&id) else { return };
        let (root, name) = (request.root, request.peer.clone());
        let chunks: Vec<_> = chunks.iter().copied().filter(|chunk| request.open.contains(chunk)).collect();
        let len = self.works[&root].missing.len();
        if let Some(has) = self.peers.get_mut(&name).and_then(|peer| peer.has.get_mut(&root)) {
            if matches!(has, Has::All) {
                *has = Has::Part(ChunkSet::full(len));
            }
            if let Has::Part(set) = has {
                chunks.iter().for_each(|chunk| _ = set.remove(*chunk));
            }
        }
        for chunk in chunks {
            self.give_back(id, CHUNK_BYTES);
            self.put_back(root, chunk, id);
        }
    }

    fn failed(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        let (root, peer) = (request.root, request.peer.clone());
        self.end(id);
        let spread = ask::score(root, &self.own, id.0);
        let times = self.works.get_mut(&root).map_or(0, |work| work.failed(&peer, self.now, spread));
        if times == REPORTED_FAILURES {
            self.actions.push(Action::Report(Report::Failing { peer, root, times }));
        }
    }

    fn unstored(&mut self, id: RequestId) {
        let Some(root) = self.requests.get(&id).map(|request| request.root) else { return };
        let chunks: BTreeSet<ChunkIndex> = self.end(id).into_iter().collect();
        if let Some(work) = self.works.get_mut(&root) {
            work.on_demand.retain(|chunk| !chunks.contains(chunk));
        }
    }

    fn need_now(&mut self, root: Root, chunks: Vec<ChunkIndex>) {
        for chunk in chunks {
            let Some(work) = self.works.get(&root) else { return };
            if !work.missing.contains(chunk) || work.on_demand.contains(&chunk) {
                continue;
            }
            match self.request_of(root, chunk) {
                Some(id) if self.requests[&id].priority == Priority::OnDemand => continue,
                Some(_) => self.cancel(root, &[chunk]),
                None => {}
            }
            self.works.entry(root).and_modify(|work| work.on_demand.push(chunk));
            self.last_need = Some(self.now);
        }
    }

    fn enter_slot(&mut self, slot: Slot) {
        self.slot = slot;
        let rate = match slot {
            Slot::Limited(rate) => Some(rate),
            Slot::Closed | Slot::Open => None,
        };
        self.limits.set_slot(self.now, rate);
    }

    fn set_paused(&mut self, root: Option<Root>, paused: bool) {
        match root {
            None => self.paused = paused,
            Some(root) => _ = self.works.get_mut(&root).map(|work| work.paused = paused),
        }
    }

    fn request_of(&self, root: Root, chunk: ChunkIndex) -> Option<RequestId> {
        self.works.get(&root)?.request_of.get(&chunk).copied()
    }

    /// Gives back to the limits what a request will not send.
    fn give_back(&mut self, id: RequestId, bytes: u64) {
        let Request { peer, priority, by_slot, .. } = &self.requests[&id];
        self.limits.give_back(peer, *priority, *by_slot, bytes);
    }

    /// Takes a chunk out of its request.
    fn take_out(&mut self, root: Root, chunk: ChunkIndex, id: RequestId) {
        self.works.get_mut(&root).map(|work| work.land(chunk));
        let request = self.requests.get_mut(&id).expect("a chunk's request is there");
        assert!(request.open.remove(&chunk), "a chunk is in its request");
        let peer = self.peers.get_mut(&request.peer).expect("requests end with their peer");
        match request.priority {
            Priority::OnDemand => peer.waiting -= 1,
            _ => peer.in_flight -= 1,
        }
        if request.open.is_empty() {
            if request.priority != Priority::OnDemand {
                peer.open_requests -= 1;
            }
            self.requests.remove(&id);
            self.works.entry(root).and_modify(|work| work.barren.clear());
        }
    }

    /// The same, and it is still missing.
    fn put_back(&mut self, root: Root, chunk: ChunkIndex, id: RequestId) {
        let urgent = self.requests[&id].priority == Priority::OnDemand;
        self.take_out(root, chunk, id);
        let Some(work) = self.works.get_mut(&root) else { return };
        work.barren.clear();
        if urgent {
            work.on_demand.push(chunk);
        }
    }

    /// Ends a request; says what had not come.
    fn end(&mut self, id: RequestId) -> Vec<ChunkIndex> {
        let Some(request) = self.requests.get(&id) else { return Vec::new() };
        let (root, chunks) = (request.root, request.open.iter().copied().collect::<Vec<_>>());
        chunks.iter().for_each(|chunk| self.put_back(root, *chunk, id));
        chunks
    }

    /// Takes chunks out of their requests, which is told to the driver.
    fn cancel(&mut self, root: Root, chunks: &[ChunkIndex]) {
        let mut by_request: BTreeMap<RequestId, Vec<ChunkIndex>> = BTreeMap::new();
        for chunk in chunks {
            if let Some(id) = self.request_of(root, *chunk) {
                self.take_out(root, *chunk, id);
                by_request.entry(id).or_default().push(*chunk);
            }
        }
        let cancels = by_request.into_iter().map(|(request, chunks)| Action::Cancel { request, chunks });
        self.actions.extend(cancels);
    }

    /// Looks through all sources again where the time of leaving others their share is over.
    fn end_courtesies(&mut self) {
        let now = self.now;
        let over = |work: &&mut Work| work.courtesy.is_some_and(|courtesy| courtesy.until <= now);
        self.works.values_mut().filter(over).for_each(|work| work.barren.clear());
    }

    fn give_up_silent(&mut self) {
        let late = |request: &Request| request.deadline <= self.now;
        let silent: Vec<_> = self.requests.iter().filter(|(_, r)| late(r)).map(|(id, _)| *id).collect();
        for request in silent {
            let chunks = self.requests[&request].open.iter().copied().collect();
            self.actions.push(Action::Cancel { request, chunks });
            self.failed(request);
        }
    }

    fn tell_wake(&mut self) {
        let deadlines = self.requests.values().map(|request| request.deadline);
        let pauses = self.works.values().flat_map(|work| {
            let bans = work.bans.values().map(|ban| ban.until);
            let courtesy = work.courtesy.map(|courtesy| courtesy.until);
            work.troubles.values().map(|trouble| trouble.until).chain(bans).chain(courtesy)
        });
        let next = deadlines.chain(pauses).filter(|at| *at > self.now).min().unwrap_or(Duration::MAX);
        let next = next.min(self.next_wake.max(self.now + Duration::from_millis(1)));
        if next != Duration::MAX && (next < self.told_wake || self.told_wake <= self.now) {
            self.told_wake = next;
            self.actions.push(Action::WakeAt(next));
        }
    }
}
