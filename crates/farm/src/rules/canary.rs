//! Letting a canary out, seeing where it arrived, and taking it back.

use super::copy::hold;
use crate::canary::Canary;
use crate::change::{Change, Refusal, RefusalKind};
use crate::key::Key;
use crate::record::FormatRevision;
use crate::timestamp::Timestamp;
use crate::view::FarmView;
use model::{Name, Root};
use std::collections::BTreeSet;
use std::time::Duration;

/// A canary that is older is of a server that ended in the middle of its test.
const LONGEST: Duration = Duration::from_secs(600);

/// Has every server with a share of `store` pull `root`, which `server` has completely.
///
/// Refused while another test of the store runs.
pub fn let_out(
    view: &FarmView,
    store: &Name,
    root: Root,
    server: &Name,
    now: Timestamp,
) -> Result<Change, Refusal> {
    let key = Key::Canary(store.clone());
    let mut change = Change::default();
    match view.canaries.get(store) {
        Some(canary) if now.since(canary.at) < LONGEST => {
            return Err(Refusal::new(
                RefusalKind::InUse,
                format!("server {} tests store {store} since {}", canary.server, canary.at.seen_at(now)),
                "wait until its test is over; one that was interrupted counts as over after 10 minutes",
            ));
        }
        Some(canary) => change.unchanged(key.clone(), canary),
        None => change.absent(key.clone()),
    }
    hold(view, &mut change, root, server, now);
    change.put(key, &Canary { revision: FormatRevision, server: server.clone(), root, at: now });
    Ok(change)
}

/// Ends a test: nothing needs the canary's content any more. Changes nothing where another test
/// runs meanwhile.
pub fn take_back(view: &FarmView, store: &Name, root: Root) -> Change {
    let mut change = Change::default();
    if let Some(canary) = view.canaries.get(store).filter(|canary| canary.root == root) {
        change.unchanged(Key::Canary(store.clone()), canary);
        change.delete(Key::Canary(store.clone()));
    }
    change
}

/// The servers that have a canary, and all that should.
pub fn arrived(view: &FarmView, store: &Name, root: Root) -> (BTreeSet<Name>, BTreeSet<Name>) {
    let expected = view.stores.get(store).map(|store| store.paths.keys().cloned().collect());
    let has = view.copies_of(root).map(|(server, _)| server.clone()).collect();
    (has, expected.unwrap_or_default())
}
