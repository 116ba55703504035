//! What to ask whom for next: pure bookkeeping of what is wanted, who has it, and what is under way.
//!
//! A chunk that only one peer has is asked of it before those that others have as well, and each
//! server begins at another place of the disk: so three servers that pull the same version from one
//! get most of it from each other.

use model::{ChunkIndex, Name, Root};
use protocol::mesh::{Have, Possession};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Chunks that are looked at for one request: bounds its cost, by eye.
const MOST_LOOKED_AT: usize = 8192;
/// The longest possession bitmap that is kept, in bytes: of a disk of 2 TiB.
const MAX_BITS: usize = 4 << 20;
/// Roots that one peer may speak of.
const MAX_ROOTS: usize = 10_000;

/// What one peer has of one root.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Complete,
    Part(Vec<u8>),
}

impl Source {
    fn has(&self, chunk: u32) -> bool {
        match self {
            Self::Complete => true,
            Self::Part(bits) => bits.get(chunk as usize / 8).is_some_and(|byte| byte >> (chunk % 8) & 1 == 1),
        }
    }
}

/// One version on its way here.
#[derive(Debug, Default)]
struct Pull {
    /// To be asked for.
    todo: BTreeSet<u32>,
    /// Before all others, in this order.
    soon: VecDeque<u32>,
    /// Asked for.
    asked: BTreeMap<u32, Name>,
    /// Where this server begins.
    first: u32,
    /// Nothing is asked for now.
    held: bool,
}

/// The whole of it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pulls: BTreeMap<Root, Pull>,
    sources: BTreeMap<Root, BTreeMap<Name, Source>>,
    /// Peers that sent something else than what a root says.
    liars: BTreeSet<(Name, Root)>,
}

impl Plan {
    /// Takes in what a peer said.
    pub(super) fn heard(&mut self, peer: &Name, have: &Have) {
        let spoken_of = self.sources.values().filter(|peers| peers.contains_key(peer)).count();
        let peers = self.sources.entry(have.root).or_default();
        let known = peers.contains_key(peer);
        match &have.possession {
            Possession::Gone => drop(peers.remove(peer)),
            _ if !known && spoken_of >= MAX_ROOTS => {}
            Possession::Complete => drop(peers.insert(peer.clone(), Source::Complete)),
            Possession::Part { first, bits } => {
                let source = peers.entry(peer.clone()).or_insert_with(|| Source::Part(Vec::new()));
                take_bits(source, first.0 as usize / 8, bits);
            }
        }
        if peers.is_empty() {
            self.sources.remove(&have.root);
        }
    }

    /// Forgets what a peer said; what it was asked for is to be asked for again.
    pub(super) fn lost(&mut self, peer: &Name) {
        self.sources.values_mut().for_each(|peers| drop(peers.remove(peer)));
        self.sources.retain(|_, peers| !peers.is_empty());
        let roots: Vec<Root> = self.pulls.keys().copied().collect();
        roots.iter().for_each(|root| self.give_back(root, peer));
    }

    /// A peer sent wrong bytes: it is not asked for this root any more.
    pub(super) fn lied(&mut self, peer: &Name, root: Root) {
        self.liars.insert((peer.clone(), root));
        self.give_back(&root, peer);
    }

    fn give_back(&mut self, root: &Root, peer: &Name) {
        if let Some(pull) = self.pulls.get_mut(root) {
            let back: Vec<u32> =
                pull.asked.iter().filter(|(_, asked)| *asked == peer).map(|(c, _)| *c).collect();
            back.iter().for_each(|chunk| drop(pull.asked.remove(chunk)));
            pull.todo.extend(back);
        }
    }

    /// Begins a version, or says anew which chunks of it are to come; `place` spreads the servers.
    pub(super) fn want(&mut self, root: Root, chunks: &[ChunkIndex], place: u64) {
        let pull = self.pulls.entry(root).or_default();
        pull.todo = chunks.iter().map(|chunk| chunk.0).filter(|c| !pull.asked.contains_key(c)).collect();
        let at = (place % chunks.len().max(1) as u64) as usize;
        pull.first = chunks.get(at).map_or(0, |chunk| chunk.0);
    }

    /// Asks for nothing of the version, or goes on.
    pub(super) fn hold(&mut self, root: &Root, held: bool) {
        if let Some(pull) = self.pulls.get_mut(root) {
            pull.held = held;
        }
    }

    /// Ends a version.
    pub(super) fn forget(&mut self, root: &Root) {
        self.pulls.remove(root);
    }

    /// These are asked for before all others.
    pub(super) fn expect(&mut self, root: &Root, chunks: &[ChunkIndex]) {
        if let Some(pull) = self.pulls.get_mut(root) {
            let wanted = chunks.iter().map(|chunk| chunk.0).filter(|chunk| pull.todo.contains(chunk));
            let new: Vec<u32> = wanted.filter(|chunk| !pull.soon.contains(chunk)).take(256).collect();
            pull.soon.extend(new);
        }
    }

    /// These came.
    pub(super) fn came(&mut self, root: &Root, chunks: &[ChunkIndex]) {
        if let Some(pull) = self.pulls.get_mut(root) {
            for chunk in chunks {
                pull.todo.remove(&chunk.0);
                pull.asked.remove(&chunk.0);
            }
        }
    }

    /// These did not come.
    pub(super) fn failed(&mut self, root: &Root, chunks: &[ChunkIndex]) {
        if let Some(pull) = self.pulls.get_mut(root) {
            let back = chunks.iter().filter(|chunk| pull.asked.remove(&chunk.0).is_some());
            let back: Vec<u32> = back.map(|chunk| chunk.0).collect();
            pull.todo.extend(back);
        }
    }

    /// Whether nothing is to be asked for and nothing is under way.
    pub(super) fn is_idle(&self, root: &Root) -> bool {
        self.pulls.get(root).is_none_or(|pull| pull.todo.is_empty() && pull.asked.is_empty())
    }

    /// The peers that have something of a root and never sent anything else.
    pub(super) fn sources(&self, root: &Root) -> Vec<Name> {
        let honest = |peer: &&Name| !self.liars.contains(&((*peer).clone(), *root));
        let peers = self.sources.get(root).into_iter().flat_map(|peers| peers.keys());
        peers.filter(honest).cloned().collect()
    }

    /// The peers that have this chunk.
    pub(super) fn sources_of(&self, root: &Root, chunk: ChunkIndex) -> Vec<Name> {
        let has = |peer: &Name| self.sources[root][peer].has(chunk.0);
        self.sources(root).into_iter().filter(has).collect()
    }

    /// What to ask a peer for now, at most `limit` chunks of one root; noted as asked for.
    pub(super) fn next(&mut self, peer: &Name, limit: usize) -> Option<(Root, Vec<ChunkIndex>)> {
        for (root, pull) in self.pulls.iter_mut().filter(|(_, pull)| !pull.held && !pull.todo.is_empty()) {
            let Some(sources) = self.sources.get(root) else { continue };
            let honest = !self.liars.contains(&(peer.clone(), *root));
            let Some(own) = sources.get(peer).filter(|_| honest) else { continue };
            let others: Vec<&Source> =
                sources.iter().filter(|(name, _)| *name != peer).map(|(_, s)| s).collect();
            let chunks = pull.choose(own, &others, limit);
            if !chunks.is_empty() {
                for chunk in &chunks {
                    pull.todo.remove(chunk);
                    pull.asked.insert(*chunk, peer.clone());
                }
                return Some((*root, chunks.into_iter().map(ChunkIndex).collect()));
            }
        }
        None
    }
}

impl Pull {
    fn choose(&mut self, own: &Source, others: &[&Source], limit: usize) -> Vec<u32> {
        let todo = &self.todo;
        self.soon.retain(|chunk| todo.contains(chunk));
        let soon: Vec<u32> = self.soon.iter().copied().filter(|chunk| own.has(*chunk)).take(limit).collect();
        if !soon.is_empty() {
            return soon;
        }
        let (mut rare, mut common) = (Vec::new(), Vec::new());
        let round = todo.range(self.first..).chain(todo.range(..self.first)).copied();
        for chunk in round.take(MOST_LOOKED_AT).filter(|chunk| own.has(*chunk)) {
            match others.iter().any(|other| other.has(chunk)) {
                false => rare.push(chunk),
                true if common.len() < limit => common.push(chunk),
                true => {}
            }
            if rare.len() == limit {
                break;
            }
        }
        if rare.is_empty() { common } else { rare }
    }
}

/// Writes a piece of a bitmap over what was known, within bounds.
fn take_bits(source: &mut Source, at: usize, bits: &[u8]) {
    let Some(end) = at.checked_add(bits.len()).filter(|end| *end <= MAX_BITS) else { return };
    let Source::Part(known) = source else {
        // Whole before, in part now: what it had was damaged or is made anew.
        *source = Source::Part(Vec::new());
        return take_bits(source, at, bits);
    };
    if known.len() < end {
        known.resize(end, 0);
    }
    known[at..end].copy_from_slice(bits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn root() -> Root {
        Root::from_bytes([1; 32])
    }

    fn have(possession: Possession) -> Have {
        Have { root: root(), sequence: 0, possession }
    }

    fn part(bits: &'static [u8]) -> Have {
        have(Possession::Part { first: ChunkIndex(0), bits: Bytes::from_static(bits) })
    }

    fn chunks(numbers: impl IntoIterator<Item = u32>) -> Vec<ChunkIndex> {
        numbers.into_iter().map(ChunkIndex).collect()
    }

    #[test]
    fn what_only_one_peer_has_is_asked_of_it_first() {
        let (mut plan, a, b) = (Plan::default(), name("a"), name("b"));
        plan.heard(&a, &have(Possession::Complete));
        plan.heard(&b, &part(&[0b0000_1111]));
        plan.want(root(), &chunks(0..8), 0);
        assert_eq!(plan.next(&a, 3), Some((root(), chunks(4..7))));
        assert_eq!(plan.next(&b, 3), Some((root(), chunks(0..3))));
        assert_eq!(plan.next(&a, 3), Some((root(), chunks([7]))));
        assert_eq!(plan.next(&a, 3), Some((root(), chunks([3]))));
        assert_eq!(plan.next(&a, 3), None);
        assert!(!plan.is_idle(&root()));
        plan.came(&root(), &chunks(0..8));
        assert!(plan.is_idle(&root()));
    }

    #[test]
    fn servers_begin_at_different_places_and_what_is_read_soon_goes_first() {
        let (mut plan, a) = (Plan::default(), name("a"));
        plan.heard(&a, &have(Possession::Complete));
        plan.want(root(), &chunks(0..8), 13);
        plan.expect(&root(), &chunks([2, 9]));
        assert_eq!(plan.next(&a, 4), Some((root(), chunks([2]))));
        assert_eq!(plan.next(&a, 4), Some((root(), chunks([5, 6, 7, 0]))));
    }

    #[test]
    fn what_was_asked_of_a_lost_or_lying_peer_is_asked_of_another() {
        let (mut plan, a, b) = (Plan::default(), name("a"), name("b"));
        plan.heard(&a, &have(Possession::Complete));
        plan.heard(&b, &have(Possession::Complete));
        plan.want(root(), &chunks(0..4), 0);
        plan.next(&a, 2);
        plan.next(&b, 2);
        plan.lost(&a);
        assert_eq!(plan.sources(&root()), std::slice::from_ref(&b));
        assert_eq!(plan.next(&b, 9), Some((root(), chunks(0..2))));
        plan.lied(&b, root());
        assert_eq!((plan.next(&b, 9), plan.sources(&root())), (None, vec![]));
        plan.heard(&a, &have(Possession::Complete));
        assert_eq!(plan.next(&a, 9), Some((root(), chunks(0..4))));
        plan.failed(&root(), &chunks(0..4));
        plan.hold(&root(), true);
        assert_eq!(plan.next(&a, 9), None);
    }

    #[test]
    fn a_bitmap_from_beyond_any_disk_is_ignored() {
        let (mut plan, a) = (Plan::default(), name("a"));
        let far = Possession::Part { first: ChunkIndex(u32::MAX / 8 * 8), bits: Bytes::from_static(&[1]) };
        plan.heard(&a, &have(far));
        assert!(plan.sources_of(&root(), ChunkIndex(u32::MAX / 8 * 8)).is_empty());
    }
}
