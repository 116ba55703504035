//! One request for chunks, from its first answer to its last: stored, and told to the engine.

use super::Shared;
use crate::engine::{Action, Event, Hold, RequestId};
use model::{ChunkIndex, Name, Root};
use protocol::mesh::{Encoding, Response};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use store::{ReceiveError, Receiving, Urgency};

/// A request whose answer comes.
pub(super) struct Asked {
    pub(super) request: RequestId,
    pub(super) peer: Name,
    pub(super) receiving: Arc<Receiving>,
    pub(super) urgency: Urgency,
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
        loop {
            match asked.answer.recv_timeout(self.options.silence) {
                Ok(Response::Chunk { index, encoding: Encoding::Raw, bytes })
                    if asked.left.remove(&index.0) =>
                {
                    match asked.receiving.put(index, &bytes, asked.urgency) {
                        Ok(_) => self.arrived(asked.receiving.root(), index, bytes.len()),
                        Err(error) => return bad_put(error),
                    }
                }
                Ok(Response::NotHere { .. }) => {}
                Ok(Response::Done) => return Outcome::Answered,
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

fn bad_put(error: ReceiveError) -> Outcome {
    match error {
        ReceiveError::WrongBytes { .. } | ReceiveError::NoSuchChunk { .. } => {
            Outcome::Lied(error.to_string())
        }
        ReceiveError::NoSpace { .. } => Outcome::NoRoom,
        other => Outcome::Store(other.to_string()),
    }
}
