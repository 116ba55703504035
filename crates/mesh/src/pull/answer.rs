//! One request for chunks, from its first answer to its last: stored, and told to the engine.

use super::Shared;
use crate::encoding::{self, UnpackError};
use crate::engine::{Action, Event, Hold, RequestId};
use crate::serve::chunk_of;
use bytes::Bytes;
use model::{ChunkIndex, Name, Root};
use protocol::mesh::{Accept, Encoding, Response};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use store::{ReceiveError, Receiving, StoredVersion, Urgency};

/// A request whose answer comes.
pub(super) struct Asked {
    pub(super) request: RequestId,
    pub(super) peer: Name,
    pub(super) receiving: Arc<Receiving>,
    pub(super) urgency: Urgency,
    /// In which forms its chunks may come.
    pub(super) accept: Accept,
    /// The version that they may continue.
    pub(super) parent: Option<Arc<StoredVersion>>,
    /// What was asked for and has not come.
    pub(super) left: BTreeSet<u32>,
    pub(super) answer: Receiver<Response>,
}

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

/// The outcome, and what the engine wants done now.
pub(super) struct Taken {
    pub(super) outcome: Outcome,
    pub(super) actions: Vec<Action>,
}

impl Shared {
    /// Takes in the whole answer of a request.
    pub(super) fn take_in(&self, mut asked: Asked) -> Taken {
        let outcome = self.take_parts(&mut asked);
        let actions = self.conclude(&asked, &outcome);
        Taken { outcome, actions }
    }

    fn take_parts(&self, asked: &mut Asked) -> Outcome {
        let mut measured = Measured::default();
        loop {
            let waits = Instant::now();
            match asked.answer.recv_timeout(self.options.silence) {
                Ok(Response::Chunk { index, encoding, bytes })
                    if is_welcome(encoding, asked.accept) && asked.left.remove(&index.0) =>
                {
                    measured.part(bytes.len(), waits.elapsed());
                    if let Err(outcome) = self.take_chunk(asked, index, encoding, bytes) {
                        return outcome;
                    }
                }
                Ok(Response::NotHere { .. }) => {}
                Ok(Response::Done) => {
                    if asked.accept == Accept::default() {
                        self.measured(&asked.peer, &measured);
                    }
                    return Outcome::Answered;
                }
                Ok(Response::Refused(why)) => {
                    let (peer, root) = (&asked.peer, asked.receiving.root());
                    tracing::warn!(%peer, %root, why = why.text(), "a peer refuses to send chunks");
                    return Outcome::Failed;
                }
                Ok(other) => {
                    let what = format!("an answer that does not belong here: {other:?}");
                    return Outcome::Lied(what.chars().take(200).collect());
                }
                Err(_) => return Outcome::Failed,
            }
        }
    }

    fn take_chunk(
        &self,
        asked: &Asked,
        index: ChunkIndex,
        encoding: Encoding,
        bytes: Bytes,
    ) -> Result<(), Outcome> {
        let sent_bytes = bytes.len();
        self.received_bytes.fetch_add(sent_bytes as u64, Ordering::Relaxed);
        let parent = |_| asked.parent.as_ref().and_then(|parent| chunk_of(parent, index));
        let bytes = match encoding::unpack(encoding, bytes, parent) {
            Ok(bytes) => bytes,
            // Damaged here since it was asked for: it comes otherwise the next time.
            Err(UnpackError::NoParent) => {
                self.forget_parent(asked.receiving.root());
                return Err(Outcome::Failed);
            }
            Err(error) => return Err(Outcome::Lied(error.to_string())),
        };
        asked.receiving.put(index, &bytes, asked.urgency).map_err(bad_put)?;
        self.arrived(asked.receiving.root(), index, sent_bytes);
        Ok(())
    }

    fn forget_parent(&self, root: Root) {
        if let Some(coming) = self.state().coming.get_mut(&root) {
            coming.parent = None;
        }
    }

    fn measured(&self, peer: &Name, measured: &Measured) {
        let mut state = self.state();
        state.speeds.entry(peer.clone()).or_default().measured(measured.bytes, measured.waited);
    }

    fn arrived(&self, root: Root, chunk: ChunkIndex, sent_bytes: usize) {
        let mut state = self.state();
        if let Some(coming) = state.coming.get_mut(&root) {
            coming.arrived_bytes += u64::from(coming.receiving.version().size().chunk_len(chunk));
        }
        let event = Event::Arrived { root, chunk, sent_bytes: sent_bytes as u32 };
        let actions = self.feed(&mut state, event);
        drop(state);
        self.perform(actions, None);
    }

    /// Tells the engine how a request ended.
    fn conclude(&self, asked: &Asked, outcome: &Outcome) -> Vec<Action> {
        let (request, root) = (asked.request, asked.receiving.root());
        let peer = || asked.peer.clone();
        match outcome {
            Outcome::Answered => {
                let chunks = asked.left.iter().copied().map(ChunkIndex).collect();
                self.feed(&mut self.state(), Event::NotThere { request, chunks })
            }
            Outcome::Failed => self.feed(&mut self.state(), Event::Failed { request }),
            Outcome::Lied(reason) => {
                let actions = self.feed(&mut self.state(), Event::Wrong { root, peer: peer() });
                self.observer.bad_peer(&asked.peer, root, reason);
                actions
            }
            Outcome::NoRoom => self.hold(root, request),
            Outcome::Store(reason) => {
                tracing::error!(%root, reason, "what came from a peer cannot be stored");
                self.hold(root, request)
            }
        }
    }

    /// Nothing more of the version can be stored now; it is looked again in a second.
    fn hold(&self, root: Root, request: RequestId) -> Vec<Action> {
        let mut state = self.state();
        let first = state.coming.get_mut(&root).map(|coming| !std::mem::replace(&mut coming.full, true));
        let mut actions = self.feed(&mut state, Event::Hold { root, why: Some(Hold::DiskFull) });
        actions.extend(self.feed(&mut state, Event::Unstored { request }));
        drop(state);
        if first == Some(true) {
            self.observer.no_room(root);
        }
        actions
    }
}

/// What came of one answer after its first part, and how long it was waited for.
#[derive(Default)]
struct Measured {
    begun: bool,
    bytes: u64,
    waited: Duration,
}

impl Measured {
    fn part(&mut self, bytes: usize, waited: Duration) {
        // Until the first part the peer's disk was waited for, or others were served.
        if std::mem::replace(&mut self.begun, true) {
            self.bytes += bytes as u64;
            self.waited += waited;
        }
    }
}

fn is_welcome(encoding: Encoding, accept: Accept) -> bool {
    match encoding {
        Encoding::Raw => true,
        Encoding::Zstd => accept.zstd,
        Encoding::ZstdDelta(root) => accept.delta == Some(root),
    }
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
