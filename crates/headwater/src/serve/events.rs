//! `/v1/events`: what happened, and what happens.

use super::api_error::ApiError;
use super::routes::Routes;
use super::state::Shared;
use super::views;
use api::{Endpoint, EventView, EventsQuery, paths};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use farm::{EventId, EventKind, Severity, Timestamp};
use futures::stream::{self, Stream};
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::ops::Bound;

/// The header by which a follower says what it has seen (HTML, server-sent events, 9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";

/// The endpoints of events.
pub(super) fn routes(routes: Routes) -> Routes {
    let list = Endpoint::get(paths::EVENTS, "What happened, oldest first").asks::<EventsQuery>();
    let follow = Endpoint::get(
        paths::EVENTS_STREAM,
        "What happened and what happens; goes on behind the event that the header Last-Event-ID names",
    );
    routes
        .on(list.lists::<EventView>(), self::list)
        .on(follow.asks::<EventsQuery>().streams::<EventView>(), self::follow)
}

async fn list(
    State(state): State<Shared>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Json<Vec<EventView>>, ApiError> {
    let Query(query) = query?;
    let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut found = Filter::new(query)?.after(&state, None);
    found.drain(..found.len().saturating_sub(limit));
    Ok(Json(found.into_iter().map(|(_, view)| view).collect()))
}

async fn follow(
    State(state): State<Shared>,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(query) = query?;
    // One that was sent by another program, or is forgotten: from the beginning.
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let follower = Follower {
        changes: state.farm.changes(),
        filter: Filter::new(query)?,
        state,
        last,
        ready: VecDeque::new(),
    };
    Ok(Sse::new(stream_of(follower)).keep_alive(KeepAlive::default()))
}

/// Which events somebody wants to see.
struct Filter {
    kinds: Option<BTreeSet<EventKind>>,
    severity: Severity,
    subject: Option<String>,
    since: Timestamp,
}

impl Filter {
    fn new(query: EventsQuery) -> Result<Self, ApiError> {
        let EventsQuery { kind, severity, subject, since_ms, .. } = query;
        let kinds = kind.map(|kinds| kinds.split(',').map(known_kind).collect()).transpose()?;
        let severity = severity.map_or(Ok(Severity::Info), |severity| known_severity(&severity))?;
        Ok(Self { kinds, severity, subject, since: Timestamp(since_ms.unwrap_or(0)) })
    }

    fn admits(&self, event: &farm::Event) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind))
            && event.severity >= self.severity
            && self.subject.as_ref().is_none_or(|subject| *subject == event.subject)
            && event.at >= self.since
    }

    /// The wanted events behind one, oldest first.
    fn after(&self, state: &Shared, last: Option<&EventId>) -> Vec<(EventId, EventView)> {
        let view = state.farm.view();
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let found = view.events.range((from, Bound::Unbounded)).filter(|(_, event)| self.admits(event));
        found.map(|(id, event)| (id.clone(), views::event(id, event))).collect()
    }
}

fn known_kind(text: &str) -> Result<EventKind, ApiError> {
    let known = EventKind::ALL.iter().find(|kind| kind.id() == text).copied();
    let message = || format!("there is no kind of event {text:?}");
    known.ok_or_else(|| ApiError::bad_request(message(), "docs/operations/events.md lists them"))
}

fn known_severity(text: &str) -> Result<Severity, ApiError> {
    let known = [Severity::Info, Severity::Warning, Severity::Error].into_iter().find(|one| one.id() == text);
    let message = || format!("{text:?} is no severity");
    known.ok_or_else(|| ApiError::bad_request(message(), "one of info, warning, error"))
}

/// Where a follower stands.
struct Follower {
    state: Shared,
    changes: tokio::sync::watch::Receiver<u64>,
    filter: Filter,
    last: Option<EventId>,
    ready: VecDeque<EventView>,
}

/// The present events, then each new one, until the server stops.
fn stream_of(follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
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
            for (id, view) in self.filter.after(&self.state, self.last.as_ref()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// The table of `docs/operations/events.md`: each kind has its row there.
    #[test]
    fn every_kind_of_event_is_documented() {
        let row =
            |kind: &EventKind| format!("| `{}` | {} | {} |", kind.id(), kind.severity().id(), kind.about());
        let rows: Vec<String> = EventKind::ALL.iter().map(row).collect();
        let documented: Vec<&str> = include_str!("../../../../docs/operations/events.md")
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let mut table = String::new();
        rows.iter().for_each(|row| writeln!(table, "{row}").unwrap());
        assert!(rows == documented, "docs/operations/events.md: its table of kinds must be\n{table}");
    }
}
