//! Following a job: a bar with rate and time left, and Ctrl-C that cancels it and says so.

use super::output::Output;
use super::{Context, Stopped};
use crate::client::ClientError;
use anyhow::Result;
use api::{JobKind, JobState, JobView, paths};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Method;
use std::future::Future;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the server is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A progress bar on standard error; invisible for programs and where there is no terminal.
#[derive(Clone)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar of `total` bytes, or one that only counts.
    pub(crate) fn new(output: Output, total: Option<u64>) -> Self {
        let bar = ProgressBar::no_length();
        if output == Output::Json {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let this = Self(bar);
        this.set_total(total);
        this
    }

    fn set_total(&self, total: Option<u64>) {
        if self.0.length() == total && total.is_some() {
            return;
        }
        let template = match total {
            Some(_) => "{msg:20} {bar:30} {bytes:>11} of {total_bytes:11} {bytes_per_sec:>14}  {eta:>5} left",
            None => "{msg:20} {spinner} {bytes:>11} {bytes_per_sec:>14}",
        };
        self.0.set_style(ProgressStyle::with_template(template).expect("a template"));
        if let Some(total) = total {
            self.0.set_length(total);
        }
    }

    /// Counts bytes that are done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Takes the bar off the screen.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }

    fn show(&self, job: &JobView) {
        self.set_total(job.total_bytes);
        self.0.set_message(job.phase.clone());
        self.0.set_position(job.done_bytes);
    }
}

/// Starts a job by `request` and follows it to its end. Its failure is ours; Ctrl-C cancels it,
/// also one that comes before the server has answered.
pub(crate) async fn follow(
    context: &Context,
    request: impl Future<Output = Result<JobView, ClientError>>,
) -> Result<()> {
    let interrupts = signal(SignalKind::interrupt())?;
    let job = request.await?;
    let bar = Bar::new(context.output, job.total_bytes);
    let ended = follow_with(context, job, &bar, interrupts).await;
    bar.finish();
    let job = ended?;
    let what = what(&job);
    match (job.state, job.error) {
        (JobState::Done, _) => {
            warn(job.warning.as_deref());
            Ok(())
        }
        (JobState::Failed, Some(error)) => Err(ClientError::Failed(error).into()),
        _ => Err(Stopped(format!("the {what} was cancelled; nothing of it is left")).into()),
    }
}

async fn follow_with(
    context: &Context,
    mut job: JobView,
    bar: &Bar,
    mut interrupts: Signal,
) -> Result<JobView> {
    let path = paths::fill(paths::JOB, job.id);
    let mut cancelled = false;
    while !job.state.is_final() {
        bar.show(&job);
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => (),
            _ = interrupts.recv() => {
                let again = std::mem::replace(&mut cancelled, true);
                if again {
                    return Err(Stopped(format!("the server still undoes the {}", what(&job))).into());
                }
                context.client.act(Method::DELETE, &path).await?;
            }
        }
        job = context.client.get(&path).await?;
    }
    Ok(job)
}

fn what(job: &JobView) -> String {
    let kind = match job.kind {
        JobKind::Adopt => return format!("adoption into store {}", job.subject),
        JobKind::Import => "import",
        JobKind::Export => "export",
        JobKind::Checkpoint => "checkpoint",
        JobKind::Seal => "seal",
        JobKind::Merge => "merge",
    };
    format!("{kind} of vDisk {}", job.subject)
}

fn warn(warning: Option<&str>) {
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
    }
}
