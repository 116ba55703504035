//! The audit of one request: who asked for what, carried with the work until it has ended.
//!
//! `layer.rs` opens an [`Entry`] for each request that changes something and puts the work into its
//! scope; [`super::farm::FarmHandle`] writes the entry's record into each transaction that is
//! committed in that scope, so that no change is without its record. Work that goes on in a task of
//! its own takes the scope along with [`spawn`]. What a server or a device does by itself opens its
//! entry with [`automatic`].
//!
//! What it does not do: decide what is kept of parameters and for how long (`farm::audit`,
//! `farm::retention`). Read next: `layer.rs`, then `farm/notes.rs` for how records are written.

mod layer;
mod routes;

use super::farm::{FarmHandle, Note};
use farm::audit::{cut, parameters};
use farm::{Actor, AuditId, AuditRecord, AuditResult, FormatRevision, TokenId};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::sync::mpsc;

pub(super) use layer::{Actions, record};
pub(super) use routes::routes;

tokio::task_local! {
    static ENTRY: Arc<Entry>;
}

/// Who asks: put into each request before the audit's layer.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) actor: Actor,
    /// The id of the token that proves it.
    pub(crate) token: Option<TokenId>,
}

/// What is asked for.
pub(crate) struct Asked {
    pub(crate) asker: Asker,
    pub(crate) action: &'static str,
    pub(crate) object: String,
    pub(crate) from: Option<String>,
    pub(crate) request: Option<String>,
    pub(crate) parameters: serde_json::Value,
}

/// A request for a change, from its arrival to its end.
pub(crate) struct Entry {
    id: AuditId,
    asked: Asked,
    /// Who asks, where only the work found out.
    found_out: OnceLock<Asker>,
    stands: Mutex<Stands>,
    notes: mpsc::Sender<Note>,
}

/// How far the record is.
#[derive(Default)]
struct Stands {
    /// A job goes on with it after the answer.
    is_job: bool,
    job_ended: bool,
    written: Option<(AuditResult, String)>,
}

impl Entry {
    /// An entry that nothing is written of yet.
    pub(super) fn new(id: AuditId, mut asked: Asked, notes: mpsc::Sender<Note>) -> Self {
        asked.object = cut(asked.object);
        asked.parameters = parameters::kept(asked.parameters);
        Self { id, asked, found_out: OnceLock::new(), stands: Mutex::default(), notes }
    }

    /// The record with its key, as it is if the request ended so.
    pub(super) fn record(&self, result: AuditResult, message: &str) -> (AuditId, AuditRecord) {
        let asked = &self.asked;
        let asker = self.asker().clone();
        let record = AuditRecord {
            revision: FormatRevision,
            at: self.id.at,
            server: self.id.server.clone(),
            actor: asker.actor,
            token: asker.token,
            action: asked.action.to_owned(),
            object: asked.object.clone(),
            from: asked.from.clone(),
            request: asked.request.clone(),
            result,
            message: cut(message.to_owned()),
            parameters: asked.parameters.clone(),
        };
        (self.id.clone(), record)
    }

    /// Who asks.
    fn asker(&self) -> &Asker {
        self.found_out.get().unwrap_or(&self.asked.asker)
    }

    /// Notes what the database has; answers whether that is news.
    pub(super) fn is_news(&self, result: AuditResult, message: &str) -> bool {
        let mut stands = self.lock();
        let news = stands.written.as_ref().is_none_or(|(was, why)| (*was, why.as_str()) != (result, message));
        stands.written = Some((result, message.to_owned()));
        news
    }

    /// A job goes on with the work after the request was answered.
    pub(super) fn begin_job(&self) {
        self.lock().is_job = true;
    }

    /// The request was answered; true where a job goes on or has ended, whose record is written by
    /// itself.
    fn is_answered_by_job(&self) -> bool {
        let stands = self.lock();
        if stands.is_job && !stands.job_ended {
            self.note(AuditResult::Started, "");
        }
        stands.is_job
    }

    /// The job has ended.
    pub(super) fn end_job(&self, result: AuditResult, message: &str) {
        let mut stands = self.lock();
        stands.job_ended = true;
        self.note(result, message);
    }

    /// Has the record written soon; in order, as the caller holds the lock.
    fn note(&self, result: AuditResult, message: &str) {
        let (id, record) = self.record(result, message);
        if self.notes.try_send(Note::Audit(id, Box::new(record))).is_err() {
            tracing::error!(action = self.asked.action, object = %self.asked.object, ?result, message,
                "too much to note at once: the end of this change is only in this log");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stands> {
        self.stands.lock().expect("no holder of this lock panics")
    }
}

/// The entry whose scope the caller works in.
pub(super) fn current() -> Option<Arc<Entry>> {
    ENTRY.try_with(Arc::clone).ok()
}

/// Notes who asks, where only the work found out: a login.
pub(super) fn asked_by(asker: Asker) {
    if let Some(entry) = current() {
        // Found out once only.
        let _ = entry.found_out.set(asker);
    }
}

/// Who asks, for what is stamped with it; `server` where nobody does.
pub(super) fn asker_text() -> String {
    current().map_or_else(|| "server".to_owned(), |entry| entry.asker().actor.to_string())
}

/// Spawns work that belongs to the same request.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    match current() {
        Some(entry) => tokio::spawn(ENTRY.scope(entry, work)),
        None => tokio::spawn(work),
    };
}

/// Does work that nobody asked for through the API; a change that it commits is recorded as an act
/// of `actor`, an error is the caller's to tell.
pub(crate) async fn automatic<T>(
    farm: &FarmHandle,
    actor: Actor,
    (action, object): (&'static str, &str),
    work: impl Future<Output = T>,
) -> T {
    let (from, request, parameters) = (None, None, serde_json::Value::Null);
    let asker = Asker { actor, token: None };
    let entry = farm.audit(Asked { asker, action, object: object.to_owned(), from, request, parameters });
    ENTRY.scope(Arc::new(entry), work).await
}
