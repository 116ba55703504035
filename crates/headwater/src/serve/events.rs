//! `/v1/events`: what happened, and what happens.

use super::routes::Routes;
use super::state::Shared;
use super::views;
use api::{Endpoint, EventView, EventsQuery, paths};
use axum::Json;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use farm::EventId;
use futures::stream::{self, Stream};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Bound;

/// The endpoints of events.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.on(
        Endpoint::get(paths::EVENTS, "What happened, oldest first")
            .asks::<EventsQuery>()
            .lists::<EventView>(),
        list,
    )
}

pub(super) async fn list(State(state): State<Shared>, Query(query): Query<EventsQuery>) -> Response {
    if query.follow.is_some_and(|value| value != "false") {
        let stream = follow(state).await;
        return Sse::new(stream).keep_alive(KeepAlive::default()).into_response();
    }
    Json(after(&state, None).into_iter().map(|(_, view)| view).collect::<Vec<_>>()).into_response()
}

/// Where a follower stands.
struct Follower {
    state: Shared,
    changes: tokio::sync::watch::Receiver<u64>,
    last: Option<EventId>,
    ready: VecDeque<EventView>,
}

/// The present events, then each new one, until the server stops.
async fn follow(state: Shared) -> impl Stream<Item = Result<Event, Infallible>> {
    let follower = Follower { changes: state.farm.changes(), state, last: None, ready: VecDeque::new() };
    stream::unfold(follower, |mut follower| async move {
        let view = follower.next().await?;
        let event = Event::default().json_data(&view).unwrap_or_default().id(view.id);
        Some((Ok(event), follower))
    })
}

impl Follower {
    async fn next(&mut self) -> Option<EventView> {
        loop {
            if let Some(view) = self.ready.pop_front() {
                return Some(view);
            }
            self.changes.borrow_and_update();
            for (id, view) in after(&self.state, self.last.as_ref()) {
                self.ready.push_back(view);
                self.last = Some(id);
            }
            if self.ready.is_empty() {
                tokio::select! {
                    changed = self.changes.changed() => changed.ok()?,
                    () = self.state.shutdown.wait() => return None,
                }
            }
        }
    }
}

/// The events behind one, oldest first.
fn after(state: &Shared, last: Option<&EventId>) -> Vec<(EventId, EventView)> {
    let view = state.farm.view();
    let from = last.map_or(Bound::Unbounded, Bound::Excluded);
    let found = view.events.range((from, Bound::Unbounded));
    found.map(|(id, event)| (id.clone(), views::event(id, event))).collect()
}
