//! Work that takes longer than a request: who asked follows it, and may cancel it.
//!
//! Jobs live in memory: what a killed server was doing is undone by the store at the next start.

use super::api_error::{ApiError, split_hint};
use super::audit::{self, Entry};
use super::farm::now;
use api::{ErrorBody, JobKind, JobState, JobView};
use axum::http::StatusCode;
use farm::AuditResult;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The most jobs at work: each import already uses all cores.
const MAX_RUNNING: usize = 8;
/// How many ended jobs are kept to be looked at.
const KEPT_ENDED: usize = 200;
/// The rate is the average over this time.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// The most samples in that time: observers report ten times a second.
const MAX_SAMPLES: usize = 128;

/// All jobs of this server.
pub(crate) struct Jobs {
    table: Mutex<Table>,
    running: watch::Sender<usize>,
}

#[derive(Default)]
struct Table {
    next: u64,
    jobs: BTreeMap<u64, Arc<Job>>,
}

/// A piece of work.
pub(crate) struct Job {
    id: u64,
    kind: JobKind,
    subject: String,
    started_ms: u64,
    cancel: watch::Sender<bool>,
    /// The request that began it.
    audit: Option<Arc<Entry>>,
    progress: Mutex<Progress>,
}

struct Progress {
    phase: &'static str,
    done_bytes: u64,
    total_bytes: Option<u64>,
    written_bytes: u64,
    samples: VecDeque<(Instant, u64)>,
    ended: Option<(u64, Outcome)>,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// All done; perhaps with something that people should know.
    Done { warning: Option<String> },
    /// Failed; nothing is left of it.
    Failed(ErrorBody),
    /// Stopped by somebody; nothing is left of it.
    Cancelled,
}

impl Outcome {
    /// A failure whose text may carry its hint in a line of its own.
    pub(crate) fn failed(error: &dyn std::fmt::Display) -> Self {
        let text = error.to_string();
        let (message, hint) = split_hint(&text);
        Self::Failed(ErrorBody { message: message.to_owned(), hint: hint.to_owned() })
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) phase: &'static str,
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
    pub(crate) written_bytes: u64,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { table: Mutex::default(), running: watch::Sender::new(0) }
    }
}

impl Jobs {
    /// Begins a job; the caller sees to it that [`Jobs::end`] is called for it.
    pub(crate) fn begin(&self, kind: JobKind, subject: &str) -> Result<Arc<Job>, ApiError> {
        let mut table = self.lock();
        let running: Vec<_> = table.jobs.values().filter(|job| !job.has_ended()).collect();
        if running.len() >= MAX_RUNNING {
            let message = format!("{MAX_RUNNING} jobs are at work, the limit");
            return Err(ApiError::new(StatusCode::CONFLICT, message, "wait until one of them has ended"));
        }
        let same = |job: &&&Arc<Job>| (job.kind, &*job.subject) == (JobKind::Import, subject);
        if kind == JobKind::Import && running.iter().any(|job| same(&job)) {
            let message = format!("a vDisk {subject} is being imported already");
            return Err(ApiError::new(StatusCode::CONFLICT, message, "choose another name, or wait for it"));
        }
        table.next += 1;
        let job = Arc::new(Job::new(table.next, kind, subject.to_owned()));
        table.jobs.insert(job.id, Arc::clone(&job));
        self.running.send_modify(|running| *running += 1);
        Ok(job)
    }

    /// Notes how a job ended.
    pub(crate) fn end(&self, job: &Job, outcome: Outcome) {
        tracing::info!(job = job.id, subject = %job.subject, ?outcome, "job ended");
        if let Some(entry) = &job.audit {
            match &outcome {
                Outcome::Done { .. } => entry.end_job(AuditResult::Ok, ""),
                Outcome::Failed(error) => entry.end_job(AuditResult::Failed, &error.message),
                Outcome::Cancelled => entry.end_job(AuditResult::Failed, "was cancelled"),
            }
        }
        job.lock().ended = Some((now().0, outcome));
        self.running.send_modify(|running| *running -= 1);
        let mut table = self.lock();
        let ended: Vec<u64> = table.jobs.values().filter(|job| job.has_ended()).map(|job| job.id).collect();
        for old in ended.iter().take(ended.len().saturating_sub(KEPT_ENDED)) {
            table.jobs.remove(old);
        }
    }

    /// The job of an id.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<Job>> {
        self.lock().jobs.get(&id).cloned()
    }

    /// All jobs, oldest first.
    pub(crate) fn list(&self) -> Vec<JobView> {
        let jobs: Vec<_> = self.lock().jobs.values().cloned().collect();
        jobs.iter().map(|job| job.view()).collect()
    }

    /// How many are at work.
    pub(crate) fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Asks every job to stop.
    pub(crate) fn cancel_all(&self) {
        self.lock().jobs.values().for_each(|job| job.cancel_unless_ended());
    }

    /// Waits until no job is at work.
    pub(crate) async fn all_ended(&self) {
        let mut running = self.running.subscribe();
        // The sender is in `self`: it cannot be gone.
        let _ = running.wait_for(|running| *running == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of this lock panics")
    }
}

impl Job {
    fn new(id: u64, kind: JobKind, subject: String) -> Self {
        let progress = Progress {
            phase: "starting",
            done_bytes: 0,
            total_bytes: None,
            written_bytes: 0,
            samples: VecDeque::new(),
            ended: None,
        };
        let (cancel, progress) = (watch::Sender::new(false), Mutex::new(progress));
        let audit = audit::current();
        if let Some(entry) = &audit {
            entry.begin_job();
        }
        Self { id, kind, subject, started_ms: now().0, cancel, audit, progress }
    }

    /// Asks the job to stop; it does so in its own time.
    pub(crate) fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// Whether somebody asked it to stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    /// Waits until somebody asks it to stop.
    pub(crate) async fn cancelled(&self) {
        let mut cancel = self.cancel.subscribe();
        // The sender is in `self`: it cannot be gone.
        let _ = cancel.wait_for(|cancel| *cancel).await;
    }

    /// Notes how far it is.
    pub(crate) fn step(&self, step: Step) {
        let mut progress = self.lock();
        let now = Instant::now();
        progress.phase = step.phase;
        progress.done_bytes = step.done_bytes;
        progress.total_bytes = step.total_bytes;
        progress.written_bytes = step.written_bytes;
        progress.samples.push_back((now, step.done_bytes));
        let old = |sample: Option<&(Instant, u64)>| sample.is_some_and(|(at, _)| now - *at > RATE_WINDOW);
        while progress.samples.len() > MAX_SAMPLES || old(progress.samples.get(1)) {
            progress.samples.pop_front();
        }
    }

    /// Asks it to stop, unless that is too late.
    pub(crate) fn cancel_unless_ended(&self) {
        if !self.has_ended() {
            self.cancel();
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self, jobs: &Jobs) -> JobView {
        let mut running = jobs.running.subscribe();
        // The number of running jobs changes after a job's end was noted.
        let _ = running.wait_for(|_| self.has_ended()).await;
        self.view()
    }

    fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// What people may see of it.
    pub(crate) fn view(&self) -> JobView {
        let progress = self.lock();
        let rate = progress.rate();
        let left = progress.total_bytes.map(|total| total.saturating_sub(progress.done_bytes));
        let running = progress.ended.is_none();
        let (state, error, warning) = match &progress.ended {
            None if self.is_cancelled() => (JobState::Cancelling, None, None),
            None => (JobState::Running, None, None),
            Some((_, Outcome::Done { warning })) => (JobState::Done, None, warning.clone()),
            Some((_, Outcome::Failed(error))) => (JobState::Failed, Some(error.clone()), None),
            Some((_, Outcome::Cancelled)) => (JobState::Cancelled, None, None),
        };
        JobView {
            id: self.id,
            kind: self.kind,
            subject: self.subject.clone(),
            state,
            phase: progress.phase.to_owned(),
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
            written_bytes: progress.written_bytes,
            rate_bytes_per_s: rate,
            eta_s: left.filter(|_| running && rate > 0).map(|left| left.div_ceil(rate)),
            started_ms: self.started_ms,
            ended_ms: progress.ended.as_ref().map(|(at, _)| *at),
            error,
            warning,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no holder of this lock panics")
    }
}

impl Progress {
    fn rate(&self) -> u64 {
        let Some(((from, first), (to, last))) = self.samples.front().zip(self.samples.back()) else {
            return 0;
        };
        let seconds = (*to - *from).as_secs_f64();
        if seconds <= 0.0 { 0 } else { (last.saturating_sub(*first) as f64 / seconds) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Outcome {
        Outcome::Done { warning: None }
    }

    #[test]
    fn one_import_of_a_name_at_a_time() {
        let jobs = Jobs::default();
        let first = jobs.begin(JobKind::Import, "a").unwrap_or_else(|_| panic!("the first"));
        assert!(jobs.begin(JobKind::Import, "a").is_err());
        assert!(jobs.begin(JobKind::Import, "b").is_ok());
        jobs.end(&first, done());
        assert!(jobs.begin(JobKind::Import, "a").is_ok());
        assert_eq!(jobs.running(), 2);
    }

    #[test]
    fn what_runs_and_what_is_kept_is_bounded() {
        let jobs = Jobs::default();
        let running: Vec<_> =
            (0..MAX_RUNNING).map(|n| jobs.begin(JobKind::Import, &n.to_string()).ok().unwrap()).collect();
        assert!(jobs.begin(JobKind::Export, "x").is_err());
        running.iter().for_each(|job| jobs.end(job, done()));
        for _ in 0..2 * KEPT_ENDED {
            let job = jobs.begin(JobKind::Export, "x").ok().unwrap();
            jobs.end(&job, done());
        }
        assert_eq!(jobs.list().len(), KEPT_ENDED);
    }

    #[tokio::test]
    async fn a_cancelled_job_is_waited_for() {
        let jobs = Jobs::default();
        let job = jobs.begin(JobKind::Import, "a").ok().unwrap();
        jobs.cancel_all();
        assert_eq!(job.view().state, JobState::Cancelling);
        jobs.end(&job, Outcome::Cancelled);
        jobs.all_ended().await;
        assert_eq!(job.view().state, JobState::Cancelled);
    }

    #[test]
    fn a_hint_in_an_error_is_parted_from_its_message() {
        let Outcome::Failed(error) = Outcome::failed(&"it broke\nhint: mend it") else { panic!("failed") };
        assert_eq!((&*error.message, &*error.hint), ("it broke", "mend it"));
    }
}
