//! One request for chunks, and what a device waits for.

use super::{FetchError, Shared, State};
use model::{ChunkIndex, Name, Root};
use protocol::mesh::{Accept, Class, Encoding, Request, Response};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Place, ReceiveError, Receiving, Urgency};

/// How long a peer that failed is not asked.
const REST: Duration = Duration::from_millis(500);
/// How long a device's thread sleeps at most before it looks again who has its chunk.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What became of a request.
pub(super) enum Outcome {
    /// Everything that the peer has of it came; the rest is to be asked for elsewhere.
    Answered,
    /// The peer is gone, or was silent for too long.
    Failed,
    /// It sent something else.
    Lied(String),
    /// It cannot be stored.
    NoRoom,
    /// The store failed.
    Store(String),
}

impl Shared {
    /// Asks a peer for chunks and stores what comes; tells the plan of each.
    pub(super) fn request_chunks(
        &self,
        peer: &Name,
        receiving: &Receiving,
        chunks: &[ChunkIndex],
        urgency: Urgency,
    ) -> Outcome {
        let root = receiving.root();
        let class = if urgency == Urgency::OnDemand { Class::OnDemand } else { Class::Bulk };
        let request = Request::GetChunks { root, accept: Accept::default(), chunks: chunks.to_vec() };
        let answer = self.peers().and_then(|peers| peers.request(peer, class, request).ok());
        let Some(answer) = answer else { return Outcome::Failed };
        let asked: BTreeSet<u32> = chunks.iter().map(|chunk| chunk.0).collect();
        loop {
            match answer.recv_timeout(self.options.silence) {
                Ok(Response::Chunk { index, encoding: Encoding::Raw, bytes }) if asked.contains(&index.0) => {
                    match receiving.put(index, &bytes, urgency) {
                        Ok(_) => self.arrived(root, index, bytes.len() as u64),
                        Err(error) => return bad_put(error),
                    }
                }
                Ok(Response::NotHere { .. }) => {}
                Ok(Response::Done) => return Outcome::Answered,
                Ok(Response::Refused(why)) => {
                    tracing::warn!(%peer, %root, why = why.text(), "a peer refuses to send chunks");
                    return Outcome::Failed;
                }
                Ok(other) => {
                    return Outcome::Lied(
                        format!("an answer that does not belong here: {other:?}").chars().take(200).collect(),
                    );
                }
                Err(_) => return Outcome::Failed,
            }
        }
    }

    fn arrived(&self, root: Root, chunk: ChunkIndex, bytes: u64) {
        let mut state = self.state();
        state.plan.came(&root, &[chunk]);
        if let Some(coming) = state.coming.get_mut(&root) {
            coming.arrived_bytes += bytes;
            coming.full = false;
        }
    }

    /// Draws the consequences of a request for those chunks that did not come.
    pub(super) fn conclude(&self, peer: &Name, root: Root, chunks: &[ChunkIndex], outcome: &Outcome) {
        let mut state = self.state();
        state.plan.failed(&root, chunks);
        match outcome {
            Outcome::Answered => {}
            Outcome::Failed => drop(state.resting.insert(peer.clone(), Instant::now() + REST)),
            Outcome::Lied(reason) => {
                state.plan.lied(peer, root);
                drop(state);
                self.observer.bad_peer(peer, root, reason);
            }
            Outcome::NoRoom => {
                let first = state
                    .coming
                    .get_mut(&root)
                    .is_some_and(|coming| !std::mem::replace(&mut coming.full, true));
                state.plan.hold(&root, true);
                drop(state);
                if first {
                    self.observer.no_room(root);
                }
            }
            Outcome::Store(reason) => {
                tracing::error!(%root, reason, "what came from a peer cannot be stored");
                state.resting.insert(peer.clone(), Instant::now() + REST);
            }
        }
        self.changed.notify_all();
    }

    /// See [`super::Puller::fetch`].
    pub(super) fn fetch_on_demand(&self, root: Root, chunks: &[ChunkIndex]) -> Result<(), FetchError> {
        let began = Instant::now();
        loop {
            let state = self.state();
            let Some(receiving) = state.coming.get(&root).map(|coming| Arc::clone(&coming.receiving)) else {
                match state.wanted.get(&root) {
                    Some(wanted) if wanted.store.has_whole(&root) => return Ok(()),
                    Some(_) => {}
                    None => {
                        return Err(FetchError::Failed("the version is not wanted on this server".into()));
                    }
                }
                self.have_patience(began, chunks[0])?;
                drop(self.wait(state, LOOK_AGAIN));
                continue;
            };
            let is_missing = |chunk: &&ChunkIndex| receiving.version().place(**chunk) == Place::Missing;
            let missing: Vec<ChunkIndex> = chunks.iter().filter(is_missing).copied().collect();
            let Some(first) = missing.first() else { return Ok(()) };
            self.have_patience(began, *first)?;
            match choose(state, root, &missing) {
                Ok((peer, mine)) => self.fetch_from(&peer, &receiving, &mine)?,
                Err(state) => drop(self.wait(state, LOOK_AGAIN)),
            }
        }
    }

    fn fetch_from(&self, peer: &Name, receiving: &Receiving, mine: &[ChunkIndex]) -> Result<(), FetchError> {
        let root = receiving.root();
        let outcome = self.request_chunks(peer, receiving, mine, Urgency::OnDemand);
        let settled = receiving.settle();
        self.conclude(peer, root, &[], &outcome);
        let mut state = self.state();
        for chunk in mine {
            state.on_demand.remove(&(root, chunk.0));
        }
        if matches!(outcome, Outcome::Answered) && is_any_missing(receiving, mine) {
            // It said that it has them, and has them not: somebody else may.
            state.resting.insert(peer.clone(), Instant::now() + REST);
        }
        drop(state);
        self.changed.notify_all();
        match (outcome, settled) {
            (Outcome::NoRoom, _) | (_, Err(ReceiveError::NoSpace { .. })) => {
                Err(FetchError::NoRoom(mine[0].0))
            }
            (Outcome::Store(reason), _) => Err(FetchError::Failed(reason)),
            (_, Err(error)) => Err(FetchError::Failed(error.to_string())),
            _ => Ok(()),
        }
    }

    fn have_patience(&self, began: Instant, chunk: ChunkIndex) -> Result<(), FetchError> {
        match began.elapsed() {
            waited if waited < self.options.patience => Ok(()),
            waited => Err(FetchError::NoSource { chunk: chunk.0, waited_s: waited.as_secs() }),
        }
    }
}

fn is_any_missing(receiving: &Receiving, chunks: &[ChunkIndex]) -> bool {
    chunks.iter().any(|chunk| receiving.version().place(*chunk) == Place::Missing)
}

/// Takes those of the chunks that no other device's thread has asked for and one peer has; gives
/// the state back where there are none to be asked for now.
fn choose<'a>(
    mut state: std::sync::MutexGuard<'a, State>,
    root: Root,
    missing: &[ChunkIndex],
) -> Result<(Name, Vec<ChunkIndex>), std::sync::MutexGuard<'a, State>> {
    let free: Vec<ChunkIndex> =
        missing.iter().copied().filter(|chunk| !state.on_demand.contains(&(root, chunk.0))).collect();
    let Some(first) = free.first() else { return Err(state) };
    let now = Instant::now();
    state.resting.retain(|_, until| *until > now);
    let sources = state.plan.sources_of(&root, *first);
    let mut rested = sources.into_iter().filter(|peer| !state.resting.contains_key(peer));
    let Some(peer) = rested.next() else { return Err(state) };
    let has = |chunk: &ChunkIndex| state.plan.sources_of(&root, *chunk).contains(&peer);
    let mine: Vec<ChunkIndex> = free.into_iter().filter(has).take(protocol::mesh::MAX_NAMED).collect();
    state.on_demand.extend(mine.iter().map(|chunk| (root, chunk.0)));
    Ok((peer, mine))
}

fn bad_put(error: ReceiveError) -> Outcome {
    match error {
        ReceiveError::WrongBytes { .. } | ReceiveError::NoSuchChunk { .. } => {
            Outcome::Lied(error.to_string())
        }
        ReceiveError::NoSpace { .. } => Outcome::NoRoom,
        other => Outcome::Store(other.to_string()),
    }
}
