//! What the engine knows of one root that this server must have.

use super::chunk_set::{ChunkSet, bits};
use super::event::{Priority, RequestId};
use model::{ChunkIndex, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The first pause after a failed request, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a peer is not asked that sent wrong bytes, doubled with each further time.
const FIRST_BAN: Duration = Duration::from_secs(60);
/// The longest of these: a peer that was mended is asked again, though nobody says so.
const LONGEST_BAN: Duration = Duration::from_secs(3600);

/// How long to wait for what other receivers fetch before fetching it oneself: longer than it takes
/// to be told of it.
const COURTESY: Duration = Duration::from_secs(1);
/// The same of what takes long itself: their disks may stand still as long.
const LONG_COURTESY: Duration = Duration::from_secs(3);

/// What a peer has of a root.
#[derive(Clone, Debug)]
pub(super) enum Has {
    All,
    Part(ChunkSet),
}

impl Has {
    pub(super) fn contains(&self, chunk: ChunkIndex) -> bool {
        match self {
            Self::All => true,
            Self::Part(set) => set.contains(chunk),
        }
    }

    fn word(&self, at: usize) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::Part(set) => set.word(at),
        }
    }
}

/// How requests for one root to one peer have failed lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    pub(super) failures: u32,
    /// Not asked before this time.
    pub(super) until: Duration,
}

/// A peer that sent wrong bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ban {
    times: u32,
    /// Not asked for anything of the root before this time.
    pub(super) until: Duration,
}

/// How long what other receivers fetch is left to them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Courtesy {
    /// Until when, unless they have more before.
    pub(super) until: Duration,
    /// How long after they had more than before.
    patience: Duration,
    /// Until when at the latest.
    latest: Duration,
}

/// One wanted root.
#[derive(Debug)]
pub(super) struct Work {
    /// What is not here.
    pub(super) missing: ChunkSet,
    /// What of it is asked for.
    pub(super) flying: ChunkSet,
    /// In which request.
    pub(super) request_of: BTreeMap<ChunkIndex, RequestId>,
    pub(super) priority: Priority,
    /// What devices wait for and is not asked for yet, first come first.
    pub(super) on_demand: Vec<ChunkIndex>,
    /// The boot profile as far as it is not here.
    pub(super) profile: Vec<ChunkIndex>,
    /// Peers that sent wrong bytes, now or once.
    pub(super) bans: BTreeMap<Name, Ban>,
    pub(super) troubles: BTreeMap<Name, Trouble>,
    /// Peers that had something of it when they went away.
    pub(super) away: BTreeSet<Name>,
    pub(super) paused: bool,
    /// Fetched whatever the schedule says.
    pub(super) forced: bool,
    /// When it was first asked for.
    pub(super) asked_since: Option<Duration>,
    /// Until when other receivers' shares are left to them; none while there is a share of our own.
    pub(super) courtesy: Option<Courtesy>,
    /// Peers that had nothing to give when last looked through.
    pub(super) barren: BTreeSet<(Priority, Name)>,
    /// Which word of the set is looked at first.
    pub(super) cursor: usize,
    /// When it was wanted, compared with others.
    pub(super) order: u64,
}

impl Work {
    pub(super) fn new(missing: ChunkSet, priority: Priority, order: u64, start: u64) -> Self {
        let words = u64::from(missing.len().div_ceil(64).max(1));
        Self {
            flying: ChunkSet::empty(missing.len()),
            missing,
            request_of: BTreeMap::new(),
            priority,
            on_demand: Vec::new(),
            profile: Vec::new(),
            bans: BTreeMap::new(),
            troubles: BTreeMap::new(),
            away: BTreeSet::new(),
            paused: false,
            forced: false,
            asked_since: None,
            courtesy: None,
            barren: BTreeSet::new(),
            cursor: (start % words) as usize,
            order,
        }
    }

    /// Whether a chunk is neither here nor asked for.
    pub(super) fn is_open(&self, chunk: ChunkIndex) -> bool {
        self.missing.contains(chunk) && !self.flying.contains(chunk)
    }

    /// Up to `most` open chunks that the peer has and `ours` accepts, from the cursor on.
    pub(super) fn pick(
        &mut self,
        has: &Has,
        most: usize,
        ours: impl Fn(ChunkIndex) -> bool,
    ) -> Vec<ChunkIndex> {
        let words = self.missing.len().div_ceil(64) as usize;
        let mut picked = Vec::new();
        for at in (self.cursor..words).chain(0..self.cursor.min(words)) {
            let open = self.missing.word(at) & !self.flying.word(at) & has.word(at);
            let left = most - picked.len();
            picked.extend(bits(at, open).map(ChunkIndex).filter(|chunk| ours(*chunk)).take(left));
            if picked.len() == most {
                self.cursor = at;
                break;
            }
        }
        picked
    }

    /// The same from the boot profile, in its order.
    pub(super) fn pick_profile(
        &mut self,
        has: &Has,
        most: usize,
        ours: impl Fn(ChunkIndex) -> bool,
    ) -> Vec<ChunkIndex> {
        let missing = &self.missing;
        self.profile.retain(|chunk| missing.contains(*chunk));
        let open = self.profile.iter().copied().filter(|chunk| self.is_open(*chunk) && has.contains(*chunk));
        open.filter(|chunk| ours(*chunk)).take(most).collect()
    }

    /// Notes that chunks are asked for.
    pub(super) fn fly(&mut self, chunks: &[ChunkIndex], request: RequestId) {
        for chunk in chunks {
            assert!(self.is_open(*chunk), "no chunk is asked for twice");
            self.flying.insert(*chunk);
            self.request_of.insert(*chunk, request);
        }
    }

    /// Notes that a chunk is not asked for any more; says in which request it was.
    pub(super) fn land(&mut self, chunk: ChunkIndex) -> Option<RequestId> {
        self.flying.remove(chunk);
        self.request_of.remove(&chunk)
    }

    /// Notes that a chunk is here, asked for or not; says whether it was missing.
    pub(super) fn arrive(&mut self, chunk: ChunkIndex) -> bool {
        self.missing.remove(chunk)
    }

    /// Whether the peer may be asked now.
    pub(super) fn trusts(&self, peer: &Name, now: Duration) -> bool {
        !self.is_banned(peer, now) && self.troubles.get(peer).is_none_or(|trouble| trouble.until <= now)
    }

    /// Our own share is here, and `others` receivers fetch theirs: from now on we wait for those.
    ///
    /// While they come on, for as long as it would take to fetch their shares too at the pace of our
    /// own: who waits longer gains nothing.
    pub(super) fn begin_courtesy(&mut self, now: Duration, others: usize) {
        let spent = self.asked_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let patience = spent.clamp(COURTESY, LONG_COURTESY);
        let latest = now + patience.max(spent.saturating_mul(others as u32));
        self.courtesy = Some(Courtesy { until: now + patience, patience, latest });
    }

    /// Another receiver has more than before.
    pub(super) fn others_come_on(&mut self, now: Duration) {
        if let Some(courtesy) = self.courtesy.as_mut().filter(|courtesy| now < courtesy.until) {
            courtesy.until = (now + courtesy.patience).min(courtesy.latest);
        }
    }

    pub(super) fn is_banned(&self, peer: &Name, now: Duration) -> bool {
        self.bans.get(peer).is_some_and(|ban| now < ban.until)
    }

    /// Notes that the peer sent wrong bytes; says whether that is news.
    pub(super) fn ban(&mut self, peer: &Name, now: Duration) -> bool {
        let ban = self.bans.entry(peer.clone()).or_default();
        if now < ban.until {
            return false;
        }
        ban.until = now + (FIRST_BAN * (1 << ban.times.min(6))).min(LONGEST_BAN);
        ban.times = ban.times.saturating_add(1);
        true
    }

    /// Who went away may come back with other disks, or mended ones.
    pub(super) fn end_ban(&mut self, peer: &Name, now: Duration) {
        if let Some(ban) = self.bans.get_mut(peer) {
            ban.until = ban.until.min(now);
        }
    }

    /// Notes a failed request; says how many there were in a row.
    ///
    /// `spread` is any number that differs from server to server: those that failed together do not
    /// come back together.
    pub(super) fn failed(&mut self, peer: &Name, now: Duration, spread: u64) -> u32 {
        let trouble = self.troubles.entry(peer.clone()).or_default();
        let pause = (FIRST_PAUSE * (1 << trouble.failures.min(6))).min(LONGEST_PAUSE);
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.until = now + pause / 2 + pause.mul_f64((spread % 1024) as f64 / 2048.0);
        trouble.failures
    }
}
