//! What is still missing of a root, and why it is not coming faster.

use super::work::Has;
use super::{Engine, Hold, Slot};
use model::{Name, Root};

/// What is still missing of a wanted root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Chunks that are not here; exactly those that are missing in the store.
    pub missing: u32,
    /// How many of them are asked for.
    pub asked: u32,
    /// Why the others are not.
    pub reason: Reason,
}

/// Why chunks are not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// They are, or will be as soon as what is asked for has come.
    Working,
    /// It was paused by an admin.
    Paused,
    /// What other versions here have is being copied first.
    Copying,
    /// The store is down to its reserve.
    DiskFull,
    /// The schedule allows nothing now.
    ScheduleClosed,
    /// A limit in bytes a second is reached.
    Limit,
    /// The servers that had it cannot be reached.
    PeerDown,
    /// Requests to all that have it failed lately; they are asked again soon.
    Failing,
    /// No server has what is missing.
    NoSource,
}

impl Engine {
    /// What is missing of a root; none where it is not wanted or complete.
    pub fn backlog(&self, root: Root) -> Option<Backlog> {
        let work = self.works.get(&root)?;
        let reason = self.reason(root);
        Some(Backlog { missing: work.missing.count(), asked: work.flying.count(), reason })
    }

    fn reason(&self, root: Root) -> Reason {
        let work = &self.works[&root];
        if self.paused || work.paused {
            return Reason::Paused;
        }
        match self.holds.get(&root) {
            _ if self.disk_full => return Reason::DiskFull,
            Some(Hold::DiskFull) => return Reason::DiskFull,
            Some(Hold::Copying) => return Reason::Copying,
            None => {}
        }
        if self.slot == Slot::Closed && !work.forced {
            return Reason::ScheduleClosed;
        }
        let sources: Vec<_> =
            self.sources(root).filter(|(_, has)| work.missing.iter().any(|c| has.contains(c))).collect();
        match sources.is_empty() {
            true if work.away.is_empty() => Reason::NoSource,
            true => Reason::PeerDown,
            false if !sources.iter().any(|(peer, _)| work.trusts(peer, self.now)) => Reason::Failing,
            false if work.flying.is_empty() && self.is_limited(root, &sources) => Reason::Limit,
            false => Reason::Working,
        }
    }

    /// Whether fewer chunks are allowed than a request has at least.
    fn is_limited(&self, root: Root, sources: &[(&Name, &Has)]) -> bool {
        let work = &self.works[&root];
        let (priority, by_slot) = (work.priority, !work.forced);
        let link =
            |peer| self.limits.link_available(peer, priority) < self.limits.link_smallest(peer, priority);
        self.limits.available(priority, by_slot) < self.limits.smallest(priority, by_slot)
            || sources.iter().all(|(peer, _)| link(peer))
    }
}
