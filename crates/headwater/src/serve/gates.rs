//! Opening the gates of pending versions: whenever the farm changes, and when a date has come.

use super::audit;
use super::farm::{FarmError, FarmHandle, now};
use super::shutdown::Shutdown;
use farm::{Actor, FarmView, Gate, Timestamp};
use model::Name;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait after something went wrong, and at most for a date: clocks are set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Opens gates as long as the server runs.
pub(super) async fn run(farm: Arc<FarmHandle>, server: Name, shutdown: Shutdown) {
    let mut changes = farm.changes();
    loop {
        // Before looking: what changes meanwhile wakes us again.
        changes.mark_unchanged();
        if let Err(error) = open_all(&farm, &server).await {
            tracing::warn!(%error, "a pending version waits longer than it should");
        }
        let wait = until_next(&farm.view(), now());
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => (),
            () = shutdown.wait() => return,
        }
    }
}

async fn open_all(farm: &FarmHandle, server: &Name) -> Result<(), FarmError> {
    while let Some(object) = next(&farm.view()) {
        // Asked again inside: somebody else may have opened it, and then nothing is left to do.
        let open = farm.decide(|view, now| Ok(farm::rules::gate::open(view, now).unwrap_or_default()));
        audit::automatic(farm, Actor::Server(server.clone()), ("version.promote", &object), open).await?;
    }
    Ok(())
}

/// The version whose gate is to be opened next, as the audit names it.
fn next(view: &FarmView) -> Option<String> {
    let (version, _) = farm::rules::gate::next(view, now())?;
    Some(format!("{}/{}", version.vdisk, version.number))
}

/// How long until the next date, at most [`LOOK_AGAIN`].
fn until_next(view: &FarmView, now: Timestamp) -> Duration {
    let dates = view.versions.values().filter_map(|version| match version.gate {
        Some(Gate::At(at)) if at > now => Some(Duration::from_millis(at.0 - now.0)),
        _ => None,
    });
    dates.min().unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_date_it_looks_once_a_minute() {
        assert_eq!(until_next(&FarmView::default(), Timestamp(1)), LOOK_AGAIN);
    }
}
