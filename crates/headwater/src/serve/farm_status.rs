//! How the farm stands: `/v1/farm/status`, and what this server tells its peers of itself.
//!
//! The answering server looks at the database and asks every connected server how it is, all at the
//! same time; what is wrong of it is decided in `findings.rs`. Nothing of it is stored: it is as true
//! as the answers just were.

mod ask;
mod database;
mod findings;
mod own;
mod seen;

use super::farm::now;
use super::routes::Routes;
use super::state::{AppState, Shared};
use api::{Endpoint, FarmStatusView, RestoredView, ServerReport, ServerStandingView, ServerState, paths};
use ask::Answer;
use axum::Json;
use axum::extract::State;
use farm::{EventKind, FarmView, Restored, Stored};
use model::Name;
use std::collections::{BTreeMap, BTreeSet};

pub(super) use own::Answering;
pub(crate) use seen::Seen;

/// The endpoint.
pub(super) fn routes(routes: Routes) -> Routes {
    let status =
        Endpoint::get(paths::FARM_STATUS, "How the database and every server stand, and what is wrong");
    routes.on(status.answers::<FarmStatusView>(200), self::status)
}

async fn status(State(state): State<Shared>) -> Json<FarmStatusView> {
    let own = {
        let state = state.clone();
        tokio::task::spawn_blocking(move || own::report(&state))
    };
    let (database, answers, own) = tokio::join!(database::look(&state), ask::all(&state.replication), own);
    let view = state.farm.view();
    let own = own.expect("measuring does not panic");
    let told = Told { answers, own, is_reachable: database.reachable };
    let mut status = FarmStatusView {
        farm: view.authority.as_ref().map(|authority| authority.farm.clone()),
        answered_by: state.server.clone(),
        at_ms: now().0,
        restored: view.restored.as_ref().map(restored),
        database,
        servers: servers(&state, &view, &told),
        findings: Vec::new(),
    };
    status.findings = findings::findings(&status);
    Json(status)
}

fn restored(of: &Stored<Restored>) -> RestoredView {
    RestoredView { made_ms: of.made.map(|made| made.0), at_ms: of.at.0 }
}

/// What the servers said.
struct Told {
    own: ServerReport,
    is_reachable: bool,
    answers: BTreeMap<Name, Option<Answer>>,
}

fn servers(state: &AppState, view: &FarmView, told: &Told) -> Vec<ServerStandingView> {
    let known = view.servers.keys().cloned().collect::<BTreeSet<_>>();
    let removed: BTreeSet<Name> =
        view.copies.keys().map(|(_, server)| server.clone()).filter(|name| !known.contains(name)).collect();
    let mut all: Vec<ServerStandingView> =
        known.into_iter().map(|name| standing(state, view, told, name)).collect();
    all.extend(
        removed.into_iter().map(|name| ServerStandingView { state: ServerState::Removed, ..silent(name) }),
    );
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn standing(state: &AppState, view: &FarmView, told: &Told, name: Name) -> ServerStandingView {
    let member = view.servers.get(&name).and_then(|server| server.member.as_ref());
    let (address, incarnation) =
        (member.map(|member| member.address.clone()), member.map(|member| member.incarnation));
    let lease = told.is_reachable.then(|| view.live.contains_key(&name));
    let base = ServerStandingView { address, incarnation, lease, ..silent(name.clone()) };
    if name == state.server {
        let report = Some(told.own.clone());
        let since_ms = Some(told.own.up_since_ms);
        return ServerStandingView { this: true, state: ServerState::Up, since_ms, report, ..base };
    }
    match told.answers.get(&name) {
        Some(Some(answer)) => ServerStandingView {
            state: ServerState::Up,
            since_ms: Some(answer.report.up_since_ms),
            clock_ms: Some(answer.clock_ms),
            clock_error_ms: Some(answer.clock_error_ms),
            report: Some(answer.report.clone()),
            ..base
        },
        Some(None) => base,
        None => {
            let since_ms = state.seen.lost(&name).or_else(|| stopped(view, &name));
            ServerStandingView { state: ServerState::Down, since_ms, ..base }
        }
    }
}

/// A server of which nothing is known but its name.
fn silent(name: Name) -> ServerStandingView {
    ServerStandingView {
        name,
        this: false,
        state: ServerState::Silent,
        since_ms: None,
        address: None,
        incarnation: None,
        lease: None,
        clock_ms: None,
        clock_error_ms: None,
        report: None,
    }
}

/// When a server said that it stops, unless it has started since.
fn stopped(view: &FarmView, name: &Name) -> Option<u64> {
    let of_it = view.events.values().filter(|event| event.subject == name.as_str());
    let turn = |kind: EventKind| matches!(kind, EventKind::ServerStarted | EventKind::ServerStopped);
    let last = of_it.filter(|event| turn(event.kind)).max_by_key(|event| event.at)?;
    (last.kind == EventKind::ServerStopped).then_some(last.at.0)
}
