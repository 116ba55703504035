//! The propagation test: a canary is let out, and it is seen when each server has it.
//!
//! It goes the way of every version: record, manifest, chunk, sync, record of the copy. All times
//! are taken by the clock of the server that tests, so clocks need not agree.

use crate::serve::api_error::ApiError;
use crate::serve::farm::FarmError;
use crate::serve::state::Shared;
use crate::serve::stores::Share;
use api::ArrivalView;
use axum::http::StatusCode;
use farm::rules::{canary, copy};
use model::{Name, Root};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{ImportError, ImportOptions, Quiet};

/// The canary's size in bytes: one chunk.
const CANARY_BYTES: usize = 64 << 10;
/// The longest that servers are waited for.
const MAX_PATIENCE_S: u64 = 300;

/// Why there was no test.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Farm(#[from] FarmError),
}

/// Lets a canary out in a store and waits until every server of the store has it, or for
/// `patience_s` seconds.
pub(super) async fn test(
    state: &Shared,
    store: Option<&Name>,
    patience_s: u64,
) -> Result<Vec<ArrivalView>, ApiError> {
    if patience_s > MAX_PATIENCE_S {
        let message = format!("{patience_s} s is too long a wait");
        return Err(ApiError::bad_request(message, "wait for at most 300 s"));
    }
    let none = || {
        ApiError::not_found(
            "this server has no share of that store",
            "`headwater store list` shows what it has",
        )
    };
    let share = state.stores.find(store).cloned().ok_or_else(none)?;
    let patience = Duration::from_secs(patience_s);
    let tested = run(state, &share, patience).await;
    share.settle(&state.farm).await;
    tested.map_err(|failure| match failure {
        Failure::Farm(error) => error.into(),
        Failure::Import(error) => {
            ApiError::from_text(StatusCode::INTERNAL_SERVER_ERROR, &format!("no canary can be made: {error}"))
        }
    })
}

async fn run(state: &Shared, share: &Arc<Share>, patience: Duration) -> Result<Vec<ArrivalView>, Failure> {
    let _relies_on_the_store = share.imports.read().await;
    let root = make(share).await?;
    let farm = &state.farm;
    farm.decide(|view, now| canary::let_out(view, &share.name, root, &state.server, now)).await?;
    let arrivals = watch(state, &share.name, root, patience).await;
    // Where this fails the record is old in ten minutes.
    farm.decide(|view, _| Ok(canary::take_back(view, &share.name, root))).await?;
    farm.decide(|view, _| copy::forget(view, root, &state.server)).await?;
    Ok(arrivals)
}

/// Stores a content that no server has.
async fn make(share: &Arc<Share>) -> Result<Root, ImportError> {
    let share = Arc::clone(share);
    let made = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; CANARY_BYTES];
        getrandom::fill(&mut bytes).expect("the system's randomness is available");
        let imported = share.store.import_stream(&mut &bytes[..], None, &ImportOptions::default(), &Quiet)?;
        Ok(imported.root)
    });
    made.await.expect("an import answers with an error")
}

/// When each server had it, until all have, or the patience is over.
async fn watch(state: &Shared, store: &Name, root: Root, patience: Duration) -> Vec<ArrivalView> {
    let (begun, mut changes) = (Instant::now(), state.farm.changes());
    let mut arrived: BTreeMap<Name, u64> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let (has, expected) = canary::arrived(&state.farm.view(), store, root);
        for server in has {
            arrived.entry(server).or_insert(begun.elapsed().as_millis() as u64);
        }
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() || expected.iter().all(|server| arrived.contains_key(server)) {
            let connected = state.replication.connected();
            let view = |server: Name| ArrivalView {
                store: store.clone(),
                arrived_after_ms: arrived.get(&server).copied(),
                is_origin: server == state.server,
                is_connected: server == state.server || connected.contains(&server),
                server,
            };
            return expected.into_iter().map(view).collect();
        }
        tokio::select! {
            _ = changes.changed() => (),
            () = tokio::time::sleep(left) => (),
            () = state.shutdown.wait() => return Vec::new(),
        }
    }
}
