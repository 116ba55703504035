//! The farm's database as the configuration says, and telling people when it is away.

use super::farm::FarmHandle;
use super::shutdown::Shutdown;
use crate::config::{Config, Database};
use anyhow::Result;
use farm::{EventKind, NewEvent};
use farm_db::{Etcd, FarmDb, Remembered, Sqlite};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// The embedded database's file in the state directory.
const EMBEDDED_FILE: &str = "farm.db";
/// The file in the state directory with what was last known of a database on etcd.
const REMEMBERED_FILE: &str = "farm.records";

/// A database to serve on.
pub(super) struct Opened {
    pub(super) db: Arc<dyn FarmDb>,
    /// Whether it is away; none where it cannot be.
    pub(super) away: Option<watch::Receiver<bool>>,
}

/// Where the embedded database is.
fn embedded_file(state_dir: &Path) -> PathBuf {
    state_dir.join(EMBEDDED_FILE)
}

/// Opens the database. One that is away is open if this server remembers its records.
pub(super) async fn open(config: &Config) -> Result<Opened> {
    let state_dir = &config.server.state_dir;
    match config.farm.database {
        Database::Embedded => {
            let file = embedded_file(state_dir);
            let db = tokio::task::spawn_blocking(move || Sqlite::open(&file)).await??;
            Ok(Opened { db: Arc::new(db), away: None })
        }
        Database::Etcd => {
            let etcd = Etcd::connect(&config.farm.etcd_options()?).await?;
            let db = Remembered::start(Arc::new(etcd), &state_dir.join(REMEMBERED_FILE)).await?;
            let away = Some(db.away());
            Ok(Opened { db: Arc::new(db), away })
        }
    }
}

/// Says when the database goes and when it is back.
pub(super) async fn tell(mut away: watch::Receiver<bool>, farm: Arc<FarmHandle>, shutdown: Shutdown) {
    let told = async {
        while away.wait_for(|away| *away).await.is_ok() {
            let since = Instant::now();
            tracing::warn!(
                "the farm database cannot be reached: sessions and boots go on, changes are refused\n\
                 hint: look at the etcd members (`etcdctl endpoint health`)"
            );
            if away.wait_for(|away| !away).await.is_err() {
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
