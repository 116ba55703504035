//! What keeps the records of reading true: this server's own, and those of servers that are gone.

use super::{Reading, WRITE_EVERY};
use crate::serve::farm::FarmError;
use crate::serve::shutdown::Shutdown;
use farm::rules::reading::let_go;
use farm::{Reads, Refusal};
use farm_db::Announcement;
use model::Name;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a server that says nothing counts as alive.
const LEASE: Duration = Duration::from_secs(20);
/// How long after its lease has ended a server's sessions still keep what they read: a machine that
/// was suspended, or cut off, for a coffee break goes on with its devices.
pub(super) const GRACE: Duration = Duration::from_secs(20 * 60);
/// How old the numbers of sessions in the record get.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// How often the database is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Keeps the records as long as the server runs.
pub(in crate::serve) async fn run(reading: Arc<Reading>, shutdown: Shutdown) {
    let mut keeper = Keeper::new(reading);
    while !shutdown.has_begun() {
        keeper.turn().await;
        tokio::select! {
            () = tokio::time::sleep(WRITE_EVERY) => (),
            () = shutdown.wait() => (),
        }
    }
    if let Some(alive) = keeper.alive.take() {
        alive.withdraw().await;
    }
}

struct Keeper {
    reading: Arc<Reading>,
    /// The lease that says that this server is alive.
    alive: Option<Announcement>,
    asked: Option<Instant>,
    counted: Option<Instant>,
    /// Since when servers are not alive that have a record.
    gone: BTreeMap<Name, Instant>,
}

impl Keeper {
    fn new(reading: Arc<Reading>) -> Self {
        Self { reading, alive: None, asked: None, counted: None, gone: BTreeMap::new() }
    }

    async fn turn(&mut self) {
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) && !self.ask().await {
            // How long others have been gone is not known without the database.
            self.gone.clear();
            return;
        }
        if let Err(error) = self.write().await {
            tracing::warn!(%error, "what is read here is not written down yet");
        }
        self.look_for_gone().await;
    }

    /// Asks the database for anything; whether it has answered.
    async fn ask(&mut self) -> bool {
        let (farm, asked) = (&self.reading.farm, Instant::now());
        if farm.catch_up().await.is_err() {
            return false;
        }
        if self.alive.is_none() {
            self.alive = farm.announce_server(LEASE).await.ok();
        }
        (self.asked, self.reading.lock().heard) = (Some(asked), Some(asked));
        true
    }

    /// What is not read any more goes at once, what is read by more or fewer after a while.
    async fn write(&mut self) -> Result<(), FarmError> {
        let reading = &self.reading;
        let (view, count) = (reading.farm.view(), self.counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY));
        let wanted = reading.wanted(&view);
        let known = view.readings.get(reading.farm.server()).map(|record| record.reads.clone());
        let known = known.unwrap_or_default();
        let same = |a: &[Reads], b: &[Reads]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_of(b));
        if known == wanted || !count && same(&known, &wanted) {
            return Ok(());
        }
        self.counted = Some(Instant::now());
        reading.refresh().await
    }

    /// Takes away the records of servers that have been gone for long enough.
    async fn look_for_gone(&mut self) {
        let farm = Arc::clone(&self.reading.farm);
        let (view, now) = (farm.view(), Instant::now());
        let is_gone = |server: &Name| server != farm.server() && !view.live.contains_key(server);
        let gone: Vec<Name> = view.readings.keys().filter(|server| is_gone(server)).cloned().collect();
        self.gone.retain(|server, _| gone.contains(server));
        for server in gone {
            let since = *self.gone.entry(server.clone()).or_insert(now);
            if now.duration_since(since) < GRACE {
                continue;
            }
            self.gone.remove(&server);
            // The view may have missed that it is back.
            match farm.is_live(&server).await {
                Ok(false) => (),
                Ok(true) | Err(_) => continue,
            }
            match farm.decide(|view, _| Ok::<_, Refusal>(let_go(view, &server))).await {
                Ok(()) => {
                    tracing::warn!(%server, "a server has been gone for so long that what its devices read may be deleted")
                }
                Err(error) => tracing::warn!(%server, %error, "what a server that is gone has read stays"),
            }
        }
    }
}
