//! The limits in bytes a second: for each priority over all links together, for each link and
//! priority, and what the schedule's slot allows.

use super::CHUNK_BYTES;
use super::bucket::Bucket;
use super::event::Priority;
use model::Name;
use std::collections::BTreeMap;
use std::time::Duration;

/// Under a limit, a request is worth at least this much time.
const SMALLEST_REQUEST: Duration = Duration::from_millis(20);
/// The most chunks that a request under a limit waits for.
const SMALLEST_CHUNKS: u64 = 16;

/// All buckets of an engine.
#[derive(Debug)]
pub(super) struct Limits {
    all: [Bucket; 4],
    slot: Bucket,
    links: BTreeMap<(Name, Priority), Bucket>,
}

impl Default for Limits {
    fn default() -> Self {
        let bucket = || Bucket::unlimited(CHUNK_BYTES);
        Self { all: [bucket(), bucket(), bucket(), bucket()], slot: bucket(), links: BTreeMap::new() }
    }
}

impl Limits {
    pub(super) fn fill(&mut self, now: Duration) {
        let fixed = self.all.iter_mut().chain([&mut self.slot]);
        fixed.chain(self.links.values_mut()).for_each(|bucket| bucket.fill(now));
    }

    pub(super) fn set(&mut self, now: Duration, peer: Option<Name>, priority: Priority, rate: Option<u64>) {
        match (peer, rate) {
            (None, _) => self.all[priority as usize].set_rate(now, rate),
            (Some(peer), None) => _ = self.links.remove(&(peer, priority)),
            (Some(peer), Some(_)) => {
                let fresh = || {
                    let mut bucket = Bucket::unlimited(CHUNK_BYTES);
                    bucket.fill(now);
                    bucket
                };
                self.links.entry((peer, priority)).or_insert_with(fresh).set_rate(now, rate);
            }
        }
    }

    pub(super) fn set_slot(&mut self, now: Duration, rate: Option<u64>) {
        self.slot.set_rate(now, rate);
    }

    /// Whether a priority has a limit of nothing at all.
    pub(super) fn is_off(&self, priority: Priority) -> bool {
        self.all[priority as usize].rate() == Some(0.0)
    }

    /// How many chunks may be asked for now, over all links.
    pub(super) fn available(&self, priority: Priority, by_slot: bool) -> u64 {
        let counts = |bucket: &Bucket| bucket.available(CHUNK_BYTES);
        self.both(priority, by_slot).map(counts).min().expect("there is one at least")
    }

    /// How many chunks a request has at least, so that limits do not make it tiny.
    pub(super) fn smallest(&self, priority: Priority, by_slot: bool) -> u64 {
        let rate = self.both(priority, by_slot).filter_map(Bucket::rate).reduce(f64::min);
        smallest(rate)
    }

    /// How long until so many chunks may be asked for; none where that is never.
    pub(super) fn wait(&self, priority: Priority, by_slot: bool, chunks: u64) -> Option<Duration> {
        let mut waits = self.both(priority, by_slot).map(|bucket| bucket.wait(chunks * CHUNK_BYTES));
        waits.try_fold(Duration::ZERO, |longest, wait| wait.map(|wait| longest.max(wait)))
    }

    /// [`Limits::available`] of one link.
    pub(super) fn link_available(&self, peer: &Name, priority: Priority) -> u64 {
        self.link(peer, priority).map_or(u64::MAX, |bucket| bucket.available(CHUNK_BYTES))
    }

    /// [`Limits::smallest`] of one link.
    pub(super) fn link_smallest(&self, peer: &Name, priority: Priority) -> u64 {
        smallest(self.link(peer, priority).and_then(Bucket::rate))
    }

    /// [`Limits::wait`] of one link.
    pub(super) fn link_wait(&self, peer: &Name, priority: Priority, chunks: u64) -> Option<Duration> {
        self.link(peer, priority).map_or(Some(Duration::ZERO), |bucket| bucket.wait(chunks * CHUNK_BYTES))
    }

    pub(super) fn take(&mut self, peer: &Name, priority: Priority, by_slot: bool, bytes: u64) {
        self.each(peer, priority, by_slot, |bucket| bucket.take(bytes));
    }

    pub(super) fn give_back(&mut self, peer: &Name, priority: Priority, by_slot: bool, bytes: u64) {
        self.each(peer, priority, by_slot, |bucket| bucket.give_back(bytes));
    }

    fn each(&mut self, peer: &Name, priority: Priority, by_slot: bool, change: impl Fn(&mut Bucket)) {
        change(&mut self.all[priority as usize]);
        if by_slot {
            change(&mut self.slot);
        }
        if !self.links.is_empty() {
            self.links.get_mut(&(peer.clone(), priority)).map(change);
        }
    }

    fn both(&self, priority: Priority, by_slot: bool) -> impl Iterator<Item = &Bucket> {
        [&self.all[priority as usize]].into_iter().chain(by_slot.then_some(&self.slot))
    }

    fn link(&self, peer: &Name, priority: Priority) -> Option<&Bucket> {
        if self.links.is_empty() { None } else { self.links.get(&(peer.clone(), priority)) }
    }
}

fn smallest(rate: Option<f64>) -> u64 {
    let Some(rate) = rate else { return 1 };
    ((rate * SMALLEST_REQUEST.as_secs_f64() / CHUNK_BYTES as f64) as u64).clamp(1, SMALLEST_CHUNKS)
}
