//! The engine's books: events go in here, actions come out and are performed.
//!
//! Events are taken in under the one lock; what the engine wants done is done without it, by the
//! thread that brought the event. So two threads may do theirs in any order: a request that is given
//! up before it was sent is answered in vain, which the engine allows.

use super::answer::Asked;
use super::lane::Lanes;
use super::{Shared, State};
use crate::engine::{Action, Event, Priority, Report, RequestId};
use model::{ChunkIndex, Name, Root};
use protocol::mesh::{Class, Have, Possession, Request};
use std::collections::VecDeque;
use std::sync::Arc;
use store::Urgency;

impl Shared {
    /// Tells the engine what happened, and does what it wants done.
    pub(super) fn tell_engine(&self, event: Event) {
        let actions = self.feed(&mut self.state(), event);
        self.perform(actions, None);
    }

    /// Only takes the event in; the actions are the caller's to perform, without the lock.
    pub(super) fn feed(&self, state: &mut State, event: Event) -> Vec<Action> {
        let actions = state.engine.handle(self.began.elapsed(), event);
        for action in &actions {
            if let Action::WakeAt(at) = action {
                state.wake = *at;
                self.changed.notify_all();
            }
        }
        actions
    }

    /// Does what the engine wants done. What devices wait for goes to `mine`, where it is given:
    /// the caller takes in those answers itself.
    pub(super) fn perform(&self, actions: Vec<Action>, mut mine: Option<&mut Vec<Asked>>) {
        let mut open = VecDeque::from(actions);
        while let Some(action) = open.pop_front() {
            match action {
                Action::Ask { peer, priority, request, root, chunks } => {
                    let asked = self.ask(&peer, priority, request, root, chunks);
                    let kept = match (asked, mine.as_deref_mut()) {
                        (Some(asked), Some(mine)) if priority == Priority::OnDemand => {
                            mine.push(asked);
                            true
                        }
                        (Some(asked), _) => self.hand_to_lane(asked),
                        (None, _) => false,
                    };
                    if !kept {
                        open.extend(self.feed(&mut self.state(), Event::Failed { request }));
                    }
                }
                Action::Cancel { request, .. } => self.cancel(request),
                Action::Completed(_) => self.changed.notify_all(),
                Action::Report(report) => self.report(report),
                Action::WakeAt(_) => {}
            }
        }
    }

    /// Sends a request.
    fn ask(
        &self,
        peer: &Name,
        priority: Priority,
        request: RequestId,
        root: Root,
        chunks: Vec<ChunkIndex>,
    ) -> Option<Asked> {
        let (receiving, parent, accept) = {
            let mut state = self.state();
            let coming = state.coming.get(&root)?;
            let (receiving, parent) = (Arc::clone(&coming.receiving), coming.parent.clone());
            let limit = state.policy.lowest(peer, priority);
            let below = parent.as_ref().map(|parent| parent.root());
            (receiving, parent, state.speeds.entry(peer.clone()).or_default().accept(limit, below))
        };
        let (class, urgency) = match priority {
            Priority::OnDemand => (Class::OnDemand, Urgency::OnDemand),
            _ => (Class::Bulk, Urgency::Bulk),
        };
        let wanted = chunks.iter().map(|chunk| chunk.0).collect();
        let words = Request::GetChunks { root, accept, chunks };
        let answer = self.peers()?.request(peer, class, words).ok()?;
        Some(Asked { request, peer: peer.clone(), receiving, urgency, accept, parent, left: wanted, answer })
    }

    /// Gives a request to the threads of its peer; false where there are none any more.
    pub(super) fn hand_to_lane(&self, asked: Asked) -> bool {
        self.state().lanes.get(&asked.peer).is_some_and(|lanes| lanes.hand(asked))
    }

    /// Those chunks are not waited for any more. An answer that still comes is stored all the same;
    /// one that is silent ends by its own time-out.
    fn cancel(&self, request: RequestId) {
        tracing::trace!(?request, "not waited for any more");
    }

    fn report(&self, report: Report) {
        match report {
            // Told where it was noticed, with the reason.
            Report::BadPeer { .. } => {}
            Report::Failing { peer, root, times } => self.observer.failing(&peer, root, times),
        }
    }

    /// A peer said what it has.
    pub(super) fn heard(self: &Arc<Self>, peer: &Name, have: &Have) {
        let mut state = self.state();
        let mut actions = Vec::new();
        if !state.lanes.contains_key(peer) && !state.stopped {
            match Lanes::start(self) {
                Ok(lanes) => _ = state.lanes.insert(peer.clone(), lanes),
                Err(error) => return tracing::error!(%error, "a thread of the mesh cannot be started"),
            }
            actions.extend(self.feed(&mut state, Event::PeerUp { peer: peer.clone() }));
        }
        let (peer, root) = (peer.clone(), have.root);
        let event = match &have.possession {
            Possession::Gone => Event::HasNone { peer, root },
            Possession::Complete => Event::HasAll { peer, root },
            Possession::Part { first, bits } => {
                Event::HasPart { peer, root, first: *first, bits: bits.to_vec() }
            }
        };
        actions.extend(self.feed(&mut state, event));
        drop(state);
        self.perform(actions, None);
        self.changed.notify_all();
    }
}
