//! The farm's database as the configuration says, and telling people when it is away.

use super::database_files;
use super::farm::FarmHandle;
use super::membership;
use super::shutdown::Shutdown;
use crate::config::{Config, Database};
use anyhow::{Result, bail};
use farm::{EventKind, NewEvent};
use farm_db::{Away, Etcd, FarmDb, Remembered, Sqlite, transfer};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// A database to serve on.
pub(super) struct Opened {
    pub(super) db: Arc<dyn FarmDb>,
    /// Since when it is away; none where it cannot be.
    pub(super) away: Option<watch::Receiver<Away>>,
}

/// Opens the database. One that is away is open if this server remembers its records.
///
/// Errors: beside the engine's, a database whose records were moved elsewhere, or are on their way
/// into it.
pub(super) async fn open(config: &Config) -> Result<Opened> {
    let opened = open_any(config).await?;
    if transfer::is_under_way(&*opened.db).await? {
        bail!(
            "records are on their way into the farm database, and not all are there\n\
             hint: run the `headwater farm restore` or `headwater farm migrate` again that was interrupted"
        );
    }
    Ok(opened)
}

async fn open_any(config: &Config) -> Result<Opened> {
    let state_dir = &config.server.state_dir;
    match config.farm.database {
        Database::Embedded => {
            database_files::check_not_migrated(state_dir)?;
            let file = database_files::embedded(state_dir);
            let db = tokio::task::spawn_blocking(move || Sqlite::open(&file)).await??;
            Ok(Opened { db: Arc::new(db), away: None })
        }
        Database::Etcd => {
            let etcd = Etcd::connect(&config.farm.etcd_options()?).await?;
            let remembered = database_files::remembered(state_dir);
            if membership::accepts_older(state_dir) {
                database_files::forget(&remembered)?;
            }
            let db = Remembered::start(Arc::new(etcd), &remembered).await?;
            if let Some(why) = db.older() {
                bail!("{why}");
            }
            let away = Some(db.away());
            Ok(Opened { db: Arc::new(db), away })
        }
    }
}

/// Says when the database goes and when it is back.
pub(super) async fn tell(mut away: watch::Receiver<Away>, farm: Arc<FarmHandle>, shutdown: Shutdown) {
    let told = async {
        while away.wait_for(Option::is_some).await.is_ok() {
            let since = Instant::now();
            tracing::warn!(
                "the farm database cannot be reached: sessions and boots go on, changes are refused\n\
                 hint: look at the etcd members (`etcdctl endpoint health`)"
            );
            if away.wait_for(Option::is_none).await.is_err() {
                return;
            }
            let seconds = since.elapsed().as_secs();
            let message =
                format!("the farm database was away for {seconds} s: changes were refused meanwhile");
            farm.event(NewEvent::new(EventKind::DatabaseBack, farm.server(), message));
        }
    };
    tokio::select! {
        () = told => (),
        () = shutdown.wait() => (),
    }
}
