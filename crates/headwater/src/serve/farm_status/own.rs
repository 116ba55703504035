//! What this server says of itself, to the API and to its peers.

use crate::serve::farm::now;
use crate::serve::membership::IDENTITY_DIR;
use crate::serve::replication::standing;
use crate::serve::state::AppState;
use crate::serve::views;
use api::{ServerReport, StoreFillView};
use bytes::Bytes;
use mesh::PeerHandler;
use mesh::identity::ServerIdentity;
use model::Name;
use protocol::mesh::{Have, MAX_STATUS_BYTES, Refused, Request, Response};
use std::sync::{Arc, Weak};

/// Measures. Blocking.
pub(super) fn report(state: &AppState) -> ServerReport {
    let (now, view) = (now().0, state.farm.view());
    let stores = state.stores.all().filter_map(|share| views::store(&view, &state.config, share).ok());
    let replication = standing(state);
    let uptime = u64::try_from(state.uptime().as_millis()).unwrap_or(u64::MAX);
    ServerReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now_ms: now,
        up_since_ms: now.saturating_sub(uptime),
        certificate_ends_ms: certificate_ends_ms(state),
        stores: stores.map(fill).collect(),
        complete_versions: replication.complete_versions,
        lacking_versions: replication.lacking_versions,
        missing_bytes: replication.missing_bytes,
        bytes_per_s: replication.bytes_per_s,
        sessions: u32::try_from(state.boot.sessions.list().len()).unwrap_or(u32::MAX),
    }
}

fn fill(store: api::StoreView) -> StoreFillView {
    StoreFillView {
        name: store.name,
        total_bytes: store.total_bytes,
        free_bytes: store.free_bytes,
        space: store.space,
        quarantined_chunks: store.quarantined_chunks,
    }
}

fn certificate_ends_ms(state: &AppState) -> Option<u64> {
    // One that cannot be read is in the log of the renewal.
    let identity = ServerIdentity::load(&state.config.server.state_dir.join(IDENTITY_DIR)).ok()??;
    u64::try_from(identity.expires().unix_timestamp_nanos() / 1_000_000).ok()
}

/// Answers the question of how this server is; what else peers say and ask goes on.
pub(in crate::serve) struct Answering {
    state: Weak<AppState>,
    rest: Arc<dyn PeerHandler>,
}

impl Answering {
    /// Of this server.
    pub(in crate::serve) fn new(state: &Arc<AppState>, rest: Arc<dyn PeerHandler>) -> Arc<Self> {
        Arc::new(Self { state: Arc::downgrade(state), rest })
    }

    fn status(&self) -> Response {
        let refused = |why: &str| Response::Refused(Refused::new(why));
        let Some(state) = self.state.upgrade() else { return refused("the server stops") };
        match serde_json::to_vec(&report(&state)) {
            Ok(text) if text.len() <= MAX_STATUS_BYTES => Response::Status(Bytes::from(text)),
            _ => refused("the server has more stores than it can tell of"),
        }
    }
}

impl PeerHandler for Answering {
    fn possession(&self) -> Vec<Have> {
        self.rest.possession()
    }

    fn heard(&self, peer: &Name, have: &Have) {
        self.rest.heard(peer, have);
    }

    fn lost(&self, peer: &Name) {
        self.rest.lost(peer);
    }

    fn answer(&self, request: &Request, send: &mut dyn FnMut(Response) -> bool) {
        if *request != Request::GetStatus {
            return self.rest.answer(request, send);
        }
        let status = self.status();
        let ended = status.ends();
        if send(status) && !ended {
            send(Response::Done);
        }
    }
}
