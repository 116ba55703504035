//! `headwater farm migrate`: the records of the embedded database into etcd, while no server runs.
//!
//! The old database is marked before the first record is in etcd and again when all are, so that no
//! server starts on it after any crash; `migrate` is run again then.

use super::restore;
use crate::cli::output::Output;
use crate::config::{Config, Database};
use crate::serve::database_files::{self, Migration};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use farm_db::transfer::{self, Present, TransferError};
use farm_db::{FarmDb, Snapshot, Sqlite};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// From where to where.
#[derive(Args)]
pub(crate) struct Migrate {
    /// The server's configuration, with `[farm] database = "etcd"` and its endpoints already
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What was done.
#[derive(Serialize)]
struct Migrated {
    records: usize,
    digest: String,
    from: String,
    to: Vec<String>,
    marker: String,
}

impl Migrate {
    pub(crate) async fn run(self, state_dir: Option<PathBuf>, output: Output) -> Result<()> {
        let config = Config::load_with_state_dir(self.config.as_deref(), state_dir)?;
        if config.farm.database == Database::Embedded {
            bail!(
                "the configuration says farm.database = \"embedded\": there is nowhere to move the records to\n\
                 hint: set farm.database = \"etcd\" and farm.endpoints in it, then run this again"
            );
        }
        let from = source(&config.server.state_dir)?;
        // Held until the end: no server begins on the old file meanwhile.
        let old = Sqlite::open(&from).context("the embedded database cannot be opened")?;
        if transfer::is_under_way(&old).await? {
            bail!(
                "not all records of the farm are in {}: a restore was interrupted\n\
                 hint: set farm.database = \"embedded\" again, run `headwater farm restore` again, then this",
                from.display()
            );
        }
        let new = restore::open(&config).await?;
        let snapshot = old.range("").await?;
        let records = carry(&config, &*new, &snapshot).await?;
        let marker = mark(&config, Migration::Done)?;
        let migrated = Migrated {
            records,
            digest: transfer::digest(&snapshot),
            from: from.display().to_string(),
            to: config.farm.endpoints.clone(),
            marker: marker.display().to_string(),
        };
        output.one(&migrated, fields)
    }
}

fn fields(migrated: &Migrated) -> Vec<(&'static str, String)> {
    vec![
        ("records", format!("{}, compared one by one, digest {}", migrated.records, migrated.digest)),
        ("from", format!("{}, as it was; no server starts on it any more", migrated.from)),
        ("to", migrated.to.join(", ")),
        ("next", "start this server; then `headwater farm init` or `headwater farm token`".to_owned()),
    ]
}

/// Brings the records over, or finds that an earlier run has; answers how many.
async fn carry(config: &Config, new: &dyn FarmDb, records: &Snapshot) -> Result<usize> {
    let state_dir = &config.server.state_dir;
    let is_first = database_files::migration(state_dir)?.is_none();
    mark(config, Migration::Begun)?;
    let error = match transfer::fill(new, records, Present::Keep).await {
        Ok(count) => return Ok(count),
        Err(error) => error,
    };
    let is_refused = matches!(error, TransferError::NotEmpty(_) | TransferError::InUse(_));
    if is_refused && transfer::differences(&new.range("").await?, records) == 0 {
        return Ok(records.entries.iter().filter(|entry| transfer::is_carried(&entry.key)).count());
    }
    if is_refused && is_first {
        database_files::unmark_migration(state_dir).context("the old database stays marked as moved")?;
    }
    Err(explained(error))
}

fn mark(config: &Config, migration: Migration) -> Result<PathBuf> {
    let state_dir = &config.server.state_dir;
    database_files::mark_migration(state_dir, &config.farm.endpoints, migration)
        .with_context(|| format!("how far the records are cannot be noted in {}", state_dir.display()))
}

fn source(state_dir: &Path) -> Result<PathBuf> {
    if database_files::migration(state_dir)? == Some(Migration::Done) {
        database_files::check_not_migrated(state_dir)?;
    }
    let file = database_files::embedded(state_dir);
    if !file.exists() {
        bail!(
            "there is no embedded database in {}\nhint: give the state directory of the server whose farm moves: --state-dir",
            state_dir.display()
        );
    }
    Ok(file)
}

fn explained(error: TransferError) -> anyhow::Error {
    match error {
        TransferError::NotEmpty(count) => anyhow!(
            "etcd has {count} records already, of this farm or another one\n\
             hint: use a cluster of the farm's own; if these records are to go, empty it: `etcdctl del '' --from-key`"
        ),
        other => other.into(),
    }
}
