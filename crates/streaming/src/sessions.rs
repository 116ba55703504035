//! The open sessions of a server and what they have done, for status pages and limits.

use crate::directory::{Peer, SessionTotals};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// One open session as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// The export's name.
    pub name: String,
    /// The client.
    pub peer: Peer,
    /// What it has done so far.
    pub totals: SessionTotals,
}

/// Counters that one worker writes and anyone may read.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    errors: AtomicU64,
    misses: AtomicU64,
}

impl Counters {
    /// Adds what one batch did. Only the connection's own thread adds, so that no locked
    /// instruction is needed.
    #[inline]
    pub(crate) fn add(&self, batch: &SessionTotals) {
        let add = |to: &AtomicU64, more: u64| {
            if more > 0 {
                to.store(to.load(Ordering::Relaxed) + more, Ordering::Relaxed);
            }
        };
        add(&self.requests, batch.requests);
        add(&self.read_bytes, batch.read_bytes);
        add(&self.written_bytes, batch.written_bytes);
        add(&self.errors, batch.errors);
        add(&self.misses, batch.misses);
    }

    /// The sums so far.
    pub(crate) fn totals(&self) -> SessionTotals {
        let get = |from: &AtomicU64| from.load(Ordering::Relaxed);
        SessionTotals {
            requests: get(&self.requests),
            read_bytes: get(&self.read_bytes),
            written_bytes: get(&self.written_bytes),
            errors: get(&self.errors),
            misses: get(&self.misses),
        }
    }
}

/// One open session.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    pub(crate) name: String,
    pub(crate) peer: Peer,
    pub(crate) counters: Counters,
}

/// All open sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    next_id: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Session>>>,
    ended: Mutex<SessionTotals>,
}

impl Sessions {
    /// Registers a session, unless its export has `limit` of them already.
    pub(crate) fn begin(&self, name: &str, peer: Peer, limit: usize) -> Option<Arc<Session>> {
        let mut open = self.open();
        if open.values().filter(|session| session.name == name).count() >= limit {
            return None;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session { id, name: name.to_owned(), peer, counters: Counters::default() });
        open.insert(id, Arc::clone(&session));
        Some(session)
    }

    /// Takes a session out and keeps its sums.
    pub(crate) fn end(&self, session: &Session) -> SessionTotals {
        self.open().remove(&session.id);
        let totals = session.counters.totals();
        let mut ended = self.ended.lock().expect("no thread panics while it adds");
        *ended = sum(*ended, totals);
        totals
    }

    /// The open sessions, in no order.
    pub(crate) fn list(&self) -> Vec<SessionStatus> {
        let status = |session: &Arc<Session>| SessionStatus {
            name: session.name.clone(),
            peer: session.peer,
            totals: session.counters.totals(),
        };
        self.open().values().map(status).collect()
    }

    /// The sums over all sessions, open and ended.
    pub(crate) fn totals(&self) -> SessionTotals {
        let ended = *self.ended.lock().expect("no thread panics while it adds");
        self.open().values().fold(ended, |all, session| sum(all, session.counters.totals()))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        self.open.lock().expect("no thread panics while it holds the sessions")
    }
}

fn sum(a: SessionTotals, b: SessionTotals) -> SessionTotals {
    SessionTotals {
        requests: a.requests + b.requests,
        read_bytes: a.read_bytes + b.read_bytes,
        written_bytes: a.written_bytes + b.written_bytes,
        errors: a.errors + b.errors,
        misses: a.misses + b.misses,
    }
}
