//! What happens to drafts by itself: checkpoints from time to time, the end of sessions whose
//! machines are gone, and fences for epochs that have passed.

use super::boot_service::BootService;
use super::draft_sessions::key_of;
use super::drafts::{Boots, DraftKey};
use super::sessions::{SessionInfo, SessionMode};
use super::shutdown::Shutdown;
use crate::config::DraftConfig;
use farm::{EventKind, FarmView, NewEvent};
use protocol::plan::BootStage;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often is looked: a fraction of what an admin would wait for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks after the drafts as long as the server runs.
pub(super) async fn run(boot: Arc<BootService>, config: DraftConfig, shutdown: Shutdown) {
    let mut changes = boot.farm.changes();
    let mut upkeep = Upkeep { boot, config, dirty_since: HashMap::new(), drafts: BTreeSet::new() };
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => (),
            changed = changes.changed() => if changed.is_err() { return },
            () = shutdown.wait() => return,
        }
        let view = upkeep.boot.farm.view();
        upkeep.boot.drafts.fence_passed(&view);
        upkeep.clear_away(&view).await;
        upkeep.end_sessions(SystemTime::now()).await;
        upkeep.save(Instant::now()).await;
    }
}

struct Upkeep {
    boot: Arc<BootService>,
    config: DraftConfig,
    /// Since when each open draft has changes that no checkpoint has.
    dirty_since: HashMap<DraftKey, Instant>,
    /// The drafts that there were at the last look, on whichever server.
    drafts: BTreeSet<DraftKey>,
}

impl Upkeep {
    /// Ends the sessions whose device is gone, or whose draft somebody else has now.
    async fn end_sessions(&self, now: SystemTime) {
        for (hash, info, idle_since) in self.boot.sessions.draft_holders(now) {
            let grace = Duration::from_secs(self.config.reconnect_s);
            let gone = idle_since.is_some_and(|since| {
                let idle = now.duration_since(since).unwrap_or_default();
                idle >= grace || is_stopping(&info)
            });
            let held = matches!(info.mode, SessionMode::Draft { epoch: Some(epoch) }
                if self.boot.drafts.is_open(&key_of(&info), epoch));
            if gone || !held {
                self.boot.end_draft_session(hash).await;
            }
        }
    }

    /// Where a draft was sealed or deleted, by any server, what is left of its files here goes.
    async fn clear_away(&mut self, view: &FarmView) {
        let now = view.drafts.keys().map(|(vdisk, number)| DraftKey::new(vdisk, *number)).collect();
        let before = std::mem::replace(&mut self.drafts, now);
        if !before.is_subset(&self.drafts) {
            self.boot.drafts.clear_away_files().await;
        }
    }

    /// How often a draft is saved, and after how many bytes: as its vDisk says, else the configuration.
    fn checkpoints(&self, key: &DraftKey) -> (Duration, u64) {
        let view = self.boot.farm.view();
        let of_vdisk = view.vdisks.get(&key.vdisk).map(|vdisk| vdisk.checkpoints).unwrap_or_default();
        let every_s = of_vdisk.every_s.unwrap_or(self.config.checkpoint_s);
        (Duration::from_secs(every_s), of_vdisk.bytes.unwrap_or(self.config.checkpoint_bytes.0))
    }

    /// Makes checkpoints of drafts that have been dirty for long, or have much to lose.
    async fn save(&mut self, now: Instant) {
        let open = self.boot.drafts.list();
        self.dirty_since.retain(|key, _| open.iter().any(|(opened, _)| opened == key));
        for (key, _) in open {
            let bytes = self.boot.drafts.dirty_bytes(&key).unwrap_or(0);
            if bytes == 0 {
                self.dirty_since.remove(&key);
                continue;
            }
            let since = *self.dirty_since.entry(key.clone()).or_insert(now);
            let (every, after) = self.checkpoints(&key);
            if now.duration_since(since) >= every || bytes >= after {
                // Whatever comes of it, the next one is not before the time is over again.
                self.dirty_since.insert(key.clone(), now);
                if let Err(error) = self.boot.drafts.checkpoint(&key, Boots::AsBefore, None).await {
                    let message = format!("{key} has no new checkpoint: {error}");
                    self.boot.farm.event(NewEvent::new(EventKind::ServiceFailed, &key.vdisk, message));
                }
            }
        }
    }
}

/// Whether the device has said that it shuts down: then a closed connection is its end.
fn is_stopping(info: &SessionInfo) -> bool {
    info.report.as_ref().is_some_and(|report| report.stage >= BootStage::Stopping)
}
