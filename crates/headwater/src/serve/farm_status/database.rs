//! How the farm's database is, asked just now.

use crate::serve::state::AppState;
use api::{DatabaseMemberView, DatabaseView, RememberedView};
use farm::Timestamp;
use farm_db::EndpointHealth;
use std::time::{Duration, Instant, SystemTime};

/// Looks; takes a few seconds at most.
pub(super) async fn look(state: &AppState) -> DatabaseView {
    let begun = Instant::now();
    let health = state.farm.health().await;
    let took = begun.elapsed();
    let answered = health.endpoints.iter().filter(|endpoint| endpoint.state.is_ok());
    // The nearest member is the one that is asked; an embedded database has none.
    let latency = answered.map(|endpoint| endpoint.took).min().unwrap_or(took);
    DatabaseView {
        engine: health.engine.to_owned(),
        reachable: health.revision.is_some(),
        revision: health.revision,
        latency_us: health.revision.map(|_| micros(latency)),
        remembered: if health.revision.is_none() { remembered(state) } else { None },
        members: health.endpoints.into_iter().map(member).collect(),
    }
}

/// What this server goes on with; it may be the first to notice.
fn remembered(state: &AppState) -> Option<RememberedView> {
    let since = state.away.as_ref()?.borrow().unwrap_or_else(SystemTime::now);
    Some(RememberedView { revision: state.farm.view().revision, since_ms: Timestamp::from(since).0 })
}

fn member(endpoint: EndpointHealth) -> DatabaseMemberView {
    let EndpointHealth { endpoint, took, state } = endpoint;
    let base = DatabaseMemberView {
        endpoint,
        healthy: false,
        name: None,
        version: None,
        leads: false,
        size_bytes: None,
        latency_us: micros(took),
        troubles: Vec::new(),
    };
    match state {
        Err(why) => DatabaseMemberView { troubles: vec![why], ..base },
        Ok(member) => DatabaseMemberView {
            healthy: member.troubles.is_empty(),
            name: Some(member.name),
            version: Some(member.version),
            leads: member.leads,
            size_bytes: Some(member.size_bytes),
            troubles: member.troubles,
            ..base
        },
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
