//! What the engine is told, and what it wants done.

use super::chunk_set::ChunkSet;
use model::{ChunkIndex, Name, Root};
use std::time::Duration;

/// How urgent chunks are, most urgent first; strictly in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A device waits for them.
    OnDemand,
    /// A device will probably read them when it boots.
    BootProfile,
    /// A draft's checkpoint.
    Checkpoint,
    /// All the rest.
    Bulk,
}

impl Priority {
    /// All, most urgent first.
    pub const ALL: [Self; 4] = [Self::OnDemand, Self::BootProfile, Self::Checkpoint, Self::Bulk];
}

/// The number of a request; no two requests of an engine have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This server must have a root. Told again, it replaces what was said before: also where a
    /// chunk that had been here was found damaged.
    Wanted {
        /// The root.
        root: Root,
        /// What is not here; its length is that of the disk.
        missing: ChunkSet,
        /// [`Priority::Bulk`] or [`Priority::Checkpoint`].
        priority: Priority,
    },
    /// These chunks of a wanted root go before the rest, in this order: its boot profile.
    Profile {
        /// The root.
        root: Root,
        /// The chunks.
        chunks: Vec<ChunkIndex>,
    },
    /// These go before the rest as well, and before the boot profile: a device will read them soon.
    Soon {
        /// The root.
        root: Root,
        /// The chunks.
        chunks: Vec<ChunkIndex>,
    },
    /// These chunks of a wanted root are not here, although they were thought to be, or to come with
    /// others.
    Lacking {
        /// The root.
        root: Root,
        /// The chunks.
        chunks: Vec<ChunkIndex>,
    },
    /// Nothing of the root is fetched but what devices wait for, until it is told again without a
    /// reason. May be told before [`Event::Wanted`].
    Hold {
        /// The root.
        root: Root,
        /// Why.
        why: Option<Hold>,
    },
    /// This server need not have a root any more.
    Unwanted {
        /// The root.
        root: Root,
    },
    /// A peer can be asked. What it has is told after this.
    PeerUp {
        /// The peer.
        peer: Name,
    },
    /// A peer cannot be asked any more; what was asked of it will not come.
    PeerDown {
        /// The peer.
        peer: Name,
    },
    /// A peer has all of a root.
    HasAll {
        /// The peer.
        peer: Name,
        /// The root.
        root: Root,
    },
    /// A peer has a part of a root and is pulling the rest (so also one that has nothing yet:
    /// receivers share the work between them).
    HasPart {
        /// The peer.
        peer: Name,
        /// The root.
        root: Root,
        /// The chunk of the first bit; pieces come in order, from 0.
        first: ChunkIndex,
        /// One bit a chunk, lowest first: replaces what was said of these chunks.
        bits: Vec<u8>,
    },
    /// A peer has nothing of a root any more.
    HasNone {
        /// The peer.
        peer: Name,
        /// The root.
        root: Root,
    },
    /// A chunk is here: verified and stored, from a peer or otherwise.
    Arrived {
        /// The root.
        root: Root,
        /// The chunk.
        chunk: ChunkIndex,
        /// How many bytes the wire carried for it; at most a chunk's.
        sent_bytes: u32,
    },
    /// What a peer sent did not have the hash it should have.
    Wrong {
        /// The root.
        root: Root,
        /// The peer.
        peer: Name,
    },
    /// A peer does not have chunks that it was asked for.
    NotThere {
        /// The request.
        request: RequestId,
        /// The chunks.
        chunks: Vec<ChunkIndex>,
    },
    /// What has not arrived of a request will not come: refused, cut off, not to be stored.
    Failed {
        /// The request.
        request: RequestId,
    },
    /// What has not arrived of a request cannot be stored now; nobody is to blame. What devices
    /// waited for in it is not asked for again by itself.
    Unstored {
        /// The request.
        request: RequestId,
    },
    /// A device waits for chunks.
    NeedNow {
        /// The root, wanted before.
        root: Root,
        /// The chunks; those that are here are ignored.
        chunks: Vec<ChunkIndex>,
    },
    /// The store is down to its reserve: only what devices wait for is fetched.
    DiskFull,
    /// The store has room again.
    DiskFree,
    /// The most bytes a second for a priority; none: no limit. A limit of 0 stops what has that
    /// priority and nothing else.
    Limit {
        /// Over the link to this peer; without one, over all links together.
        peer: Option<Name>,
        /// The priority.
        priority: Priority,
        /// Bytes a second.
        bytes_per_s: Option<u64>,
    },
    /// The schedule entered another slot; applies to everything but [`Priority::OnDemand`].
    Slot(Slot),
    /// Nothing of the root (of any, without one) is fetched but what devices wait for.
    Paused {
        /// The root.
        root: Option<Root>,
    },
    /// The opposite.
    Resumed {
        /// The root.
        root: Option<Root>,
    },
    /// Whether an admin wants a root now, whatever the schedule says.
    Forced {
        /// The root.
        root: Root,
        /// Whether it is so.
        forced: bool,
    },
    /// Nothing; the time has come that [`Action::WakeAt`] named.
    Tick,
}

/// Why a root is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// What other roots here have is being copied: only the rest has to travel.
    Copying,
    /// Its store is down to its reserve, or cannot be written.
    DiskFull,
}

/// What the weekly schedule allows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Nothing.
    Closed,
    /// So many bytes a second for all priorities together.
    Limited(u64),
    /// Everything.
    Open,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask a peer for chunks. Ends with [`Event::Arrived`] for each of them, or
    /// [`Event::NotThere`], [`Event::Failed`]; the engine itself gives up what stays silent.
    Ask {
        /// The peer.
        peer: Name,
        /// Which connection and which place in the queue.
        priority: Priority,
        /// The request's number.
        request: RequestId,
        /// The root.
        root: Root,
        /// The chunks.
        chunks: Vec<ChunkIndex>,
    },
    /// These chunks of a request are not waited for any more; the others still are. Chunks that
    /// come all the same may be stored and told as [`Event::Arrived`].
    Cancel {
        /// The request.
        request: RequestId,
        /// The chunks.
        chunks: Vec<ChunkIndex>,
    },
    /// Every chunk of the root is here. The engine forgets the root.
    Completed(Root),
    /// Something that admins should know.
    Report(Report),
    /// Hand in [`Event::Tick`] at this time at the latest; the last one counts.
    WakeAt(Duration),
}

/// What admins should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A peer sent wrong bytes and is not asked for this root again.
    BadPeer {
        /// The peer.
        peer: Name,
        /// The root.
        root: Root,
    },
    /// Requests to a peer have failed so many times in a row; it is asked again, less and less often.
    Failing {
        /// The peer.
        peer: Name,
        /// The root.
        root: Root,
        /// How often.
        times: u32,
    },
}
