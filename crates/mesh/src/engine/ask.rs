//! What is asked of whom now: the one decision that everything else prepares.

use super::event::{Action, Priority, RequestId, Slot};
use super::work::Has;
use super::{CHUNK_BYTES, DEVICES_WAIT, Engine, MAX_REQUESTS, Options, Request};
use model::{ChunkIndex, Name, Root};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Neighbouring chunks that one receiver fetches for the others: 1 MiB.
const SHARE_CHUNKS: u32 = 16;

/// Whether less urgent chunks may be asked for as well.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    /// More urgent ones wait for room or for a limit of all links.
    Stop,
}

impl Engine {
    /// Asks for all that may be asked for now, most urgent first.
    pub(super) fn ask(&mut self) {
        if self.ask_on_demand() == Then::Stop || self.disk_full || self.paused {
            return;
        }
        for priority in [Priority::BootProfile, Priority::Checkpoint, Priority::Bulk] {
            if self.ask_at(priority) == Then::Stop {
                return;
            }
        }
    }

    /// The peers that can be asked for something of a root, sooner or later; none that sent wrong
    /// bytes of it lately.
    pub(super) fn sources(&self, root: Root) -> impl Iterator<Item = (&Name, &Has)> {
        let (work, now) = (self.works.get(&root), self.now);
        let usable = move |name: &Name| !work.is_some_and(|work| work.is_banned(name, now));
        self.peers
            .iter()
            .filter_map(move |(name, peer)| Some((name, peer.has.get(&root)?)))
            .filter(move |(name, _)| usable(name))
    }

    fn ask_on_demand(&mut self) -> Then {
        let mut then = Then::GoOn;
        for root in self.in_order() {
            let work = self.works.get_mut(&root).expect("listed above");
            let waiting = std::mem::take(&mut work.on_demand);
            let waiting: Vec<_> =
                waiting.into_iter().filter(|chunk| self.works[&root].is_open(*chunk)).collect();
            let (asks, rest, stop) = self.share_out(root, waiting);
            for (peer, chunks) in asks {
                self.request(root, &peer, Priority::OnDemand, chunks);
            }
            self.works.get_mut(&root).expect("listed above").on_demand = rest;
            if stop {
                then = Then::Stop;
            }
        }
        then
    }

    /// Gives each chunk to the source with the least to do. Says what goes where, what is left,
    /// and whether any of that is left for want of room or tokens only.
    fn share_out(
        &mut self,
        root: Root,
        waiting: Vec<ChunkIndex>,
    ) -> (BTreeMap<Name, Vec<ChunkIndex>>, Vec<ChunkIndex>, bool) {
        let mut asks: BTreeMap<Name, Vec<ChunkIndex>> = BTreeMap::new();
        let (mut rest, mut stop) = (Vec::new(), false);
        let mut allowed = self.limits.available(Priority::OnDemand, false);
        for chunk in waiting {
            let load = |name: &Name| self.peers[name].waiting + asks.get(name).map_or(0, Vec::len);
            let able = self
                .sources(root)
                .filter(|(name, has)| has.contains(chunk) && self.works[&root].trusts(name, self.now));
            let best = able.map(|(name, _)| (load(name), name)).min();
            match best {
                Some((load, name))
                    if load < self.options.on_demand_window
                        && allowed > 0
                        && self.limits.link_available(name, Priority::OnDemand)
                            > asks.get(name).map_or(0, |asked: &Vec<_>| asked.len() as u64) =>
                {
                    asks.entry(name.clone()).or_default().push(chunk);
                    allowed -= 1;
                }
                best => {
                    stop |= best.is_some();
                    rest.push(chunk);
                }
            }
        }
        if stop {
            let links: Vec<_> = self.sources(root).map(|(name, _)| name.clone()).collect();
            let waits = links.iter().map(|name| self.limits.link_wait(name, Priority::OnDemand, 1));
            let soonest = waits.chain([self.limits.wait(Priority::OnDemand, false, 1)]).flatten();
            let soonest = soonest.filter(|wait| !wait.is_zero()).min();
            self.wake_after(soonest);
        }
        (asks, rest, stop)
    }

    fn ask_at(&mut self, priority: Priority) -> Then {
        for root in self.in_order() {
            let work = &self.works[&root];
            let held = work.paused || self.holds.contains_key(&root);
            let idle = held || (self.slot == Slot::Closed && !work.forced);
            let nothing = match priority {
                Priority::BootProfile => work.profile.is_empty(),
                _ => work.priority != priority,
            };
            if idle || nothing {
                continue;
            }
            if self.ask_root(root, priority) == Then::Stop {
                return Then::Stop;
            }
        }
        Then::GoOn
    }

    fn ask_root(&mut self, root: Root, priority: Priority) -> Then {
        if self.limits.is_off(priority) {
            // Waiting for it would stop the less urgent ones for good.
            return Then::GoOn;
        }
        let by_slot = !self.works[&root].forced;
        loop {
            let mut asked = false;
            for (peer, is_whole) in self.sources_by_load(root, priority) {
                let smallest = self.limits.smallest(priority, by_slot);
                let allowed = self.limits.available(priority, by_slot);
                if allowed < smallest {
                    let wait = self.limits.wait(priority, by_slot, smallest);
                    self.wake_after(wait);
                    return Then::Stop;
                }
                let smallest = self.limits.link_smallest(&peer, priority);
                let over_link = self.limits.link_available(&peer, priority);
                if over_link < smallest {
                    let wait = self.limits.link_wait(&peer, priority, smallest);
                    self.wake_after(wait);
                    continue;
                }
                let allowed = allowed.min(over_link);
                let (window, request_chunks) = self.window();
                let room = window - self.peers[&peer].in_flight;
                let most = room.min(request_chunks).min(usize::try_from(allowed).unwrap_or(usize::MAX));
                let chunks = self.choose(root, priority, &peer, is_whole, most);
                if chunks.is_empty() {
                    let work = self.works.get_mut(&root).expect("the caller has it");
                    work.barren.insert((priority, peer));
                    continue;
                }
                self.request(root, &peer, priority, chunks);
                asked = true;
            }
            if !asked {
                return Then::GoOn;
            }
        }
    }

    /// Chunks that no device waits for: how many may be asked of one peer now, and in one request.
    fn window(&self) -> (usize, usize) {
        let Options { window, window_beside_devices, request_chunks, .. } = self.options;
        let devices_wait = self.last_need.is_some_and(|at| self.now < at + DEVICES_WAIT);
        match devices_wait {
            true => (window_beside_devices.min(window), request_chunks.min(window_beside_devices / 4).max(1)),
            false => (window, request_chunks),
        }
    }

    /// Sources with room: those that are receivers themselves first, so that the one that has it
    /// all is spared; then by how much they have to do.
    fn sources_by_load(&self, root: Root, priority: Priority) -> Vec<(Name, bool)> {
        let work = &self.works[&root];
        let (window, request_chunks) = self.window();
        let mut found: Vec<_> = self
            .sources(root)
            .filter(|(name, _)| {
                work.trusts(name, self.now) && !work.barren.contains(&(priority, (*name).clone()))
            })
            .map(|(name, has)| (matches!(has, Has::All), self.peers[name].in_flight, name))
            .filter(|(_, load, _)| *load == 0 || load + request_chunks / 2 <= window)
            .filter(|(_, load, name)| *load < window && self.peers[*name].open_requests < MAX_REQUESTS)
            .collect();
        found.sort();
        found.into_iter().map(|(whole, _, name)| (name.clone(), whole)).collect()
    }

    fn choose(
        &mut self,
        root: Root,
        priority: Priority,
        peer: &Name,
        is_whole: bool,
        most: usize,
    ) -> Vec<ChunkIndex> {
        let others = if is_whole { self.other_receivers(root) } else { Vec::new() };
        let sharing =
            !others.is_empty() && self.works[&root].courtesy.is_none_or(|others| self.now < others.until);
        let (own, now) = (self.own.clone(), self.now);
        // Neighbours have the same answer: it is worked out once for each share.
        let last = Cell::new((u32::MAX, false));
        let is_share = |share: u32| {
            if last.get().0 != share {
                last.set((share, is_share_of(root, share, &own, &others)));
            }
            last.get().1
        };
        let ours = |chunk: ChunkIndex| !sharing || is_share(chunk.0 / SHARE_CHUNKS);
        let has = &self.peers[peer].has[&root];
        let work = self.works.get_mut(&root).expect("the caller has it");
        let chunks = match priority {
            Priority::BootProfile => work.pick_profile(has, most, ours),
            _ => work.pick(has, most, ours),
        };
        if chunks.is_empty() && sharing {
            let busy = self
                .requests
                .values()
                .any(|r| r.root == root && matches!(self.peers[&r.peer].has.get(&root), Some(Has::All)));
            let work = self.works.get_mut(&root).expect("the caller has it");
            if !busy && work.courtesy.is_none() && work.missing.count() > work.flying.count() {
                work.begin_courtesy(now, others.len());
            }
        }
        chunks
    }

    /// The peers that are pulling the same root.
    fn other_receivers(&self, root: Root) -> Vec<Name> {
        self.sources(root)
            .filter(|(_, has)| matches!(has, Has::Part(_)))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn request(&mut self, root: Root, to: &Name, priority: Priority, chunks: Vec<ChunkIndex>) {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        let work = self.works.get_mut(&root).expect("only wanted roots are asked for");
        work.asked_since.get_or_insert(self.now);
        work.fly(&chunks, request);
        let bytes = CHUNK_BYTES * chunks.len() as u64;
        let by_slot = priority != Priority::OnDemand && !work.forced;
        self.limits.take(to, priority, by_slot, bytes);
        let peer = self.peers.get_mut(to).expect("only peers that are up are asked");
        match priority {
            Priority::OnDemand => peer.waiting += chunks.len(),
            _ => {
                peer.in_flight += chunks.len();
                peer.open_requests += 1;
            }
        }
        let deadline = self.now + self.options.silence;
        let open: BTreeSet<ChunkIndex> = chunks.iter().copied().collect();
        self.requests.insert(request, Request { peer: to.clone(), root, priority, open, deadline, by_slot });
        self.actions.push(Action::Ask { peer: to.clone(), priority, request, root, chunks });
    }

    fn wake_after(&mut self, wait: Option<Duration>) {
        if let Some(wait) = wait {
            self.next_wake = self.next_wake.min(self.now.saturating_add(wait));
        }
    }

    /// The wanted roots, first wanted first.
    fn in_order(&self) -> Vec<Root> {
        let mut roots: Vec<_> = self.works.iter().map(|(root, work)| (work.order, *root)).collect();
        roots.sort();
        roots.into_iter().map(|(_, root)| root).collect()
    }
}

/// Whether `own` is the one of all receivers that fetches a share for the others: the one with the
/// highest hash, so that all agree without talking (rendezvous hashing).
fn is_share_of(root: Root, share: u32, own: &Name, others: &[Name]) -> bool {
    let block = u64::from(share);
    let mine = score(root, own, block);
    others.iter().all(|other| score(root, other, block) < mine)
}

/// A number that spreads well; FNV-1a and the finalizer of SplitMix64. Nobody gains by forging it.
pub(super) fn score(root: Root, name: &Name, block: u64) -> u64 {
    let bytes = root.as_bytes()[..8].iter().chain(name.as_str().as_bytes());
    let seed = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut mixed = seed ^ block.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
