//! Promotion hooks: what runs against a copy of a draft before it is sealed.
//!
//! The copy lies over a checkpoint and is thrown away unless every hook succeeds; the seal then
//! takes the copy's root. So a hook that fails changes nothing, and every byte that is ever
//! promoted was there at the seal. Hooks are built in (`built_in.rs`) or programs of the admin's
//! (`program.rs`), found by name (`catalog.rs`).
//!
//! All of it blocks: async callers use a pool thread.

mod built_in;
mod catalog;
mod copy;
mod copy_disk;
mod output;
mod program;
mod served;

use catalog::{Catalog, Found};
use copy_disk::CopyDisk;
use disk::{BlockError, BlockIo};
use image::CleanError;
use model::{Name, VersionNumber};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use catalog::{HookKind, ListedHook};
pub(crate) use copy::{Hooked, clear_away};

/// The most hooks of one seal: each takes its time, and a list of this length is a mistake.
const MAX_HOOKS: usize = 16;

/// The version that a seal is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) vdisk: Name,
    pub(crate) number: VersionNumber,
}

/// What one hook did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookReport {
    /// Its name.
    pub(crate) hook: Name,
    /// What it says about its work: the last lines of a program's output.
    pub(crate) lines: Vec<String>,
    /// Chunks of the disk that it wrote to; some may hold what they held before.
    pub(crate) touched_chunks: u64,
}

/// Why hooks did not succeed; the copy is gone and nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// There is no such hook.
    #[error("there is no hook {hook}\nhint: `headwater hook list` shows what there is")]
    Unknown { hook: String },
    /// The program is there, but could be changed by others, or is none.
    #[error("hook {hook} is not run: {reason}")]
    Refused { hook: Name, reason: String },
    /// More than a seal takes.
    #[error(
        "{0} hooks are more than the {MAX_HOOKS} that are run for one seal\nhint: put some into one program"
    )]
    TooMany(usize),
    /// The built-in hook found something in its way.
    #[error("hook {hook} failed: {source}")]
    BuiltIn { hook: Name, source: CleanError },
    /// The program ended with an error.
    #[error(
        "hook {hook} failed with {status}\n{output}\
         hint: nothing was changed; `headwater hook test` runs it on a copy without sealing"
    )]
    Failed { hook: Name, status: String, output: output::Tail },
    /// The program took too long and was killed with all of its children.
    #[error(
        "hook {hook} was stopped after {after_s} s\n{output}\
         hint: nothing was changed; hooks.timeout_s in the configuration says how long a hook may take"
    )]
    TimedOut { hook: Name, after_s: u64, output: output::Tail },
    /// Somebody cancelled the seal, or the server stops.
    #[error("hook {hook} was cancelled; nothing was changed")]
    Cancelled { hook: Name },
    /// Another seal of the version is at its hooks.
    #[error(
        "hooks run for version {number} of vDisk {vdisk} already\nhint: wait until `headwater version seal` or `hook test` has ended"
    )]
    Busy { vdisk: Name, number: VersionNumber },
    /// The store cannot keep the copy.
    #[error("a copy for the hooks cannot be kept: {0}")]
    Copy(#[from] store::DraftError),
    /// The copy could not be read or written.
    #[error("hook {hook} failed: the copy of the draft: {source}")]
    Disk { hook: Name, source: BlockError },
    /// The system refuses what a hook needs.
    #[error("hook {hook} cannot be run: {context}: {source}")]
    System { hook: Name, context: &'static str, source: std::io::Error },
}

/// Runs hooks.
#[derive(Clone, Debug)]
pub(crate) struct Hooks {
    catalog: Catalog,
    timeout: Duration,
}

impl Hooks {
    /// Hooks of `directory` beside the built-in ones, each for at most `timeout`.
    pub(crate) fn new(directory: PathBuf, timeout: Duration) -> Self {
        Self { catalog: Catalog::new(directory), timeout }
    }

    /// Every hook, also those that are refused, by name.
    pub(crate) fn list(&self) -> Vec<ListedHook> {
        self.catalog.list()
    }

    /// Says no to names that could not be run now, before anything is begun.
    pub(crate) fn check(&self, hooks: &[Name]) -> Result<(), HookError> {
        if hooks.len() > MAX_HOOKS {
            return Err(HookError::TooMany(hooks.len()));
        }
        hooks.iter().try_for_each(|hook| self.catalog.find(hook).map(drop))
    }

    /// Runs hooks in order against a disk that is thrown away unless all succeed.
    ///
    /// When it answers, no hook can change the disk any more, and what they wrote is flushed.
    pub(crate) fn run_on(
        &self,
        disk: &Arc<dyn BlockIo>,
        subject: &Subject,
        hooks: &[Name],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<HookReport>, HookError> {
        self.check(hooks)?;
        hooks.iter().map(|hook| self.run_one(disk, subject, hook, cancelled)).collect()
    }

    fn run_one(
        &self,
        disk: &Arc<dyn BlockIo>,
        subject: &Subject,
        hook: &Name,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<HookReport, HookError> {
        if cancelled() {
            return Err(HookError::Cancelled { hook: hook.clone() });
        }
        let copy = Arc::new(CopyDisk::new(Arc::clone(disk)));
        let run = match self.catalog.find(hook)? {
            Found::BuiltIn => built_in::linux_clean(hook, &copy),
            Found::Program(path) => {
                program::Program { hook, path: &path, subject, timeout: self.timeout, cancelled }.run(&copy)
            }
        };
        // Also after a failure: nobody may write into a copy that is being deleted.
        let touched_chunks = copy.close();
        let lines = run?;
        disk.flush().map_err(|source| HookError::Disk { hook: hook.clone(), source })?;
        Ok(HookReport { hook: hook.clone(), lines, touched_chunks })
    }
}

#[cfg(test)]
mod tests;
