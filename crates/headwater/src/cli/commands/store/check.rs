//! `headwater store check PATH`: works without a server, and only while none has the store open.

use crate::cli::output::{Output, bytes, print, print_json};
use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use store::{CheckObserver, CheckReport};

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// What is checked.
#[derive(Args)]
pub(crate) struct Check {
    /// The store's directory on this machine
    path: PathBuf,
}

/// The report for programs.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    versions: u32,
    layers: u32,
    drafts: u32,
    verified_bytes: u64,
    error_count: u64,
    errors: &'a [String],
    warning_count: u64,
    warnings: &'a [String],
}

impl Check {
    /// Prints what was found; an error where anything is wrong.
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let progress = Progress { shown: Mutex::new(Instant::now()) };
        let report = store::check(&self.path, &progress)?;
        progress.clear();
        match output {
            Output::Json => print_json(&view(&report))?,
            Output::Table => print(&text(&report))?,
        }
        if report.error_count > 0 {
            bail!(
                "the store {} is damaged: {} errors\n\
                 hint: start the server and import the named versions again, which repairs them; \
                 \"headwater store scrub\" repairs chunks that another version has, too",
                self.path.display(),
                report.error_count
            );
        }
        Ok(())
    }
}

fn view(report: &CheckReport) -> Report<'_> {
    Report {
        ok: report.error_count == 0,
        versions: report.versions,
        layers: report.layers,
        drafts: report.drafts,
        verified_bytes: report.bytes,
        error_count: report.error_count,
        errors: &report.errors,
        warning_count: report.warning_count,
        warnings: &report.warnings,
    }
}

fn text(report: &CheckReport) -> String {
    let mut lines: Vec<String> = report.errors.iter().map(|error| format!("error: {error}")).collect();
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    let CheckReport { versions, layers, drafts, error_count, warning_count, .. } = report;
    lines.push(format!(
        "{versions} versions, {layers} layers, {drafts} drafts, {} verified: \
         {error_count} errors, {warning_count} warnings",
        bytes(report.bytes)
    ));
    lines.join("\n")
}

/// One line on a terminal that is written over.
struct Progress {
    shown: Mutex<Instant>,
}

impl Progress {
    fn clear(&self) {
        if std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl CheckObserver for Progress {
    fn progress(&self, verified: u64) {
        let mut shown = self.shown.lock().expect("nobody panics while it holds the time");
        if shown.elapsed() > SHOW_EVERY && std::io::stderr().is_terminal() {
            *shown = Instant::now();
            let _ = write!(std::io::stderr(), "\r\x1b[K{} verified", bytes(verified));
        }
    }

    fn cancelled(&self) -> bool {
        false
    }
}
