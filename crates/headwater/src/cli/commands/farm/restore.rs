//! `headwater farm restore FILE`: the records of a backup into the farm's database, while no server
//! runs on it.
//!
//! The file is read and checked before the database is opened. Records that are there already go
//! only if they are named by their digest, and are kept in a file of their own before.

use super::backup::{self, Contents};
use crate::cli::output::{Output, or_dash};
use crate::config::{Config, Database};
use crate::serve::database_files;
use anyhow::{Context, Result, bail};
use clap::Args;
use farm::{FarmAuthority, FormatRevision, Key, Record, Restored, Timestamp};
use farm_db::backup_file::{Backup, Description};
use farm_db::transfer::{self, Present};
use farm_db::{Entry, Etcd, FarmDb, Snapshot, Sqlite};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What goes where.
#[derive(Args)]
pub(crate) struct Restore {
    /// What `headwater farm backup` wrote
    file: PathBuf,
    /// The configuration of this server: it says where the database is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Delete the records that are in the database now; the refusal without it shows their digest
    #[arg(long, value_name = "DIGEST")]
    replace: Option<String>,
}

/// What was done.
#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    contents: Contents,
    /// Where the records are kept that were in the database before.
    replaced: Option<String>,
}

impl Restore {
    pub(crate) async fn run(self, state_dir: Option<PathBuf>, output: Output) -> Result<()> {
        let name = self.file.display();
        let content = std::fs::read(&self.file).with_context(|| {
            format!("{name} cannot be read\nhint: give a file that `headwater farm backup` wrote")
        })?;
        let mut backup = Backup::decode(&content).with_context(|| format!("{name} cannot be used"))?;
        let config = Config::load_with_state_dir(self.config.as_deref(), state_dir)?;
        let db = open(&config).await?;
        let present = self.replace.as_deref().map_or(Present::Keep, Present::Replace);
        let replaced = keep(&config, &*db, present).await?;
        let contents = Contents::new(&self.file, &backup, content.len());
        mark_restored(&mut backup);
        transfer::fill(&*db, &backup.records, present).await?;
        let replaced = replaced.map(|path| path.display().to_string());
        output.one(&Done { contents, replaced }, |done| {
            let next =
                "start the servers, the first one alone; docs/operations/farms.md says what to look at then";
            let more = [("replaced records", or_dash(done.replaced.as_ref())), ("next", next.to_owned())];
            done.contents.fields().into_iter().chain(more).collect()
        })
    }
}

/// Refuses records that nobody has named; keeps those that are about to go. None where there are
/// none, or where a restore that was interrupted has begun to delete them.
async fn keep(config: &Config, db: &dyn FarmDb, present: Present<'_>) -> Result<Option<PathBuf>> {
    let mut there = db.range("").await?;
    let is_under_way = there.entries.iter().any(|entry| entry.key == transfer::UNDER_WAY);
    there.entries.retain(|entry| transfer::is_carried(&entry.key));
    if is_under_way || there.entries.is_empty() {
        return Ok(None);
    }
    let digest = transfer::digest(&there);
    if present != Present::Replace(&digest) {
        bail!(
            "the database has records already: {}\n\
             hint: if these are to go: `--replace {digest}`; they are kept in a file in the state directory",
            summary(&there)
        );
    }
    let state_dir = &config.server.state_dir;
    std::fs::create_dir_all(state_dir).with_context(|| state_dir.display().to_string())?;
    let path = state_dir.join(format!("replaced-{digest}.backup"));
    let description = Description {
        farm: authority(&there).map(|authority| authority.farm),
        server: config.server.name.to_string(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        made_ms: now().0,
    };
    if !path.exists() {
        backup::write(&path, &Backup::new(description, there).encode())
            .with_context(|| format!("{} cannot be written: nothing was replaced", path.display()))?;
    }
    Ok(Some(path))
}

/// What would be overwritten, in words.
fn summary(records: &Snapshot) -> String {
    let count = |prefix: &str| records.entries.iter().filter(|entry| entry.key.starts_with(prefix)).count();
    let farm = match authority(records) {
        Some(authority) => format!("farm {}", authority.farm),
        None => "a farm of one server".to_owned(),
    };
    format!(
        "{farm}, {} servers, {} vDisks, {} versions, {} devices, {} users; {} records in all",
        count("/servers/"),
        count("/vdisks/"),
        count("/versions/"),
        count("/devices/"),
        count("/users/"),
        records.entries.len()
    )
}

fn authority(records: &Snapshot) -> Option<FarmAuthority> {
    let key = Key::Authority.to_string();
    let entry = records.entries.iter().find(|entry| entry.key == key)?;
    // One that cannot be read is a newer program's: what is said of it is said without.
    FarmAuthority::decode(&Key::Authority, &entry.value).ok()
}

/// Until an admin has looked, servers delete nothing because no record names it: what was made since
/// the backup lies in their stores. It also is the admin's word for all servers that the records may
/// be older than they are.
fn mark_restored(backup: &mut Backup) {
    let key = Key::Restored.to_string();
    let made = Some(Timestamp(backup.description.made_ms));
    let value = Restored { revision: FormatRevision, made, at: now() }.encode();
    backup.records.entries.retain(|entry| entry.key != key);
    backup.records.entries.push(Entry { key, value, create_revision: 0, mod_revision: 0 });
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// The database that the configuration names.
pub(super) async fn open(config: &Config) -> Result<Box<dyn FarmDb>> {
    match config.farm.database {
        Database::Embedded => Ok(Box::new(open_embedded(&config.server.state_dir)?)),
        Database::Etcd => Ok(Box::new(Etcd::connect(&config.farm.etcd_options()?).await?)),
    }
}

fn open_embedded(state_dir: &Path) -> Result<Sqlite> {
    database_files::check_not_migrated(state_dir)?;
    std::fs::create_dir_all(state_dir).with_context(|| format!("{} cannot be made", state_dir.display()))?;
    Ok(Sqlite::open(&database_files::embedded(state_dir))?)
}
