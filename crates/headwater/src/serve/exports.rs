//! The NBD server's view of the sessions: a token is an export, nothing else is.

use super::farm::FarmHandle;
use super::sessions::{Holder, SessionMode, Sessions, Token};
use super::succession::Successions;
use farm::{EventKind, NewEvent};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use streaming::{Export, ExportDirectory, ExportRefusal, Peer, SessionTotals};

/// Connections that one session may have: the kernel's and libnbd's multi-conn use up to 16.
const MAX_CONNECTIONS: usize = 16;
/// Seconds between two events about unknown exports: a scanner must not fill the event log.
const UNKNOWN_EVENT_EVERY_S: u64 = 10;

/// Answers which disk a token stands for.
pub(crate) struct Exports {
    sessions: Arc<Sessions>,
    farm: Arc<FarmHandle>,
    successions: Successions,
    last_unknown_s: AtomicU64,
}

impl Exports {
    /// The exports that `sessions` has; unknown names become events of `farm`.
    pub(crate) fn new(sessions: Arc<Sessions>, farm: Arc<FarmHandle>) -> Self {
        Self { sessions, farm, successions: Successions::default(), last_unknown_s: AtomicU64::new(0) }
    }

    fn note_unknown(&self, peer: Peer) {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let last = self.last_unknown_s.load(Ordering::Relaxed);
        if now_s.saturating_sub(last) >= UNKNOWN_EVENT_EVERY_S {
            self.last_unknown_s.store(now_s, Ordering::Relaxed);
            // The name stays out of it: a mistyped token is almost a token.
            let message = format!("{peer} asked for an export that is no session of this server");
            self.farm.event(NewEvent::new(EventKind::UnknownExport, peer, message));
        }
    }
}

impl ExportDirectory for Exports {
    fn open(&self, name: &str, peer: Peer) -> Result<Export, ExportRefusal> {
        let Some(attached) = self.sessions.disk(&Token::from_text(name), SystemTime::now()) else {
            self.note_unknown(peer);
            return Err(ExportRefusal::Unknown);
        };
        let info = attached.info;
        let holder = match &info.holder {
            Holder::Device { name, .. } => name.as_str(),
            Holder::Admin => "an admin",
        };
        let description = format!("{} version {} for {holder}", info.vdisk, info.version);
        let disk = match (&info.holder, info.mode) {
            (Holder::Device { .. }, SessionMode::Draft { .. }) => {
                self.successions.succeed(&info.id, attached.disk)
            }
            _ => attached.disk,
        };
        Ok(Export { disk, description, max_connections: MAX_CONNECTIONS })
    }

    fn closed(&self, name: &str, peer: Peer, totals: &SessionTotals) {
        let holder = self.sessions.find(&Token::from_text(name)).map(|info| info.holder);
        tracing::debug!(?holder, %peer, requests = totals.requests, read = totals.read_bytes, "connection ended");
    }
}
