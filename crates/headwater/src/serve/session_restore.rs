//! Taking up the sessions of the server's last run, before anybody is answered.
//!
//! A machine does not notice that its server was away for a moment: the same token serves the same
//! root, and a draft's session goes on in its epoch.

use super::boot_service::BootService;
use super::draft_sessions::key_of;
use super::drafts::DraftKey;
use super::sessions::{SessionMode, SessionRecord, TokenHash};
use std::time::SystemTime;

impl BootService {
    /// Takes up every session that can be served; the others end here.
    pub(super) async fn restore_sessions(&self) {
        let kept = self.sessions.kept();
        let count = kept.len();
        for (hash, record) in kept {
            self.restore_session(hash, record).await;
        }
        if count > 0 {
            let taken_up = self.sessions.list().len();
            tracing::info!(taken_up, ended = count - taken_up, "sessions of the server's last run");
        }
        self.settle_drafts().await;
    }

    /// Saves what the last run left of drafts that no session holds any more.
    pub(super) async fn settle_drafts(&self) {
        let held = self.sessions.draft_holders(SystemTime::now());
        self.drafts.settle(&held.iter().map(|(_, info, _)| key_of(info)).collect()).await;
    }

    async fn restore_session(&self, hash: TokenHash, record: SessionRecord) {
        let (vdisk, version, root, mode) = record.bound_to();
        let opened = match mode {
            SessionMode::Shared => {
                let opened = self.open_disk_here(record.store(), root).await;
                opened.map(Some).map_err(|error| error.to_string())
            }
            SessionMode::Draft { epoch: Some(epoch) } => {
                let resumed = self.drafts.resume(&DraftKey::new(vdisk, version), epoch).await;
                resumed.map(|attached| Some(attached.disk)).map_err(|error| error.to_string())
            }
            SessionMode::Draft { epoch: None } | SessionMode::Scratch => Ok(None),
        };
        match opened {
            Ok(disk) => self.sessions.restore(hash, record, disk, SystemTime::now()),
            Err(error) => {
                tracing::warn!(%vdisk, %version, %error, "a session of the server's last run has ended");
                self.sessions.forget(hash);
            }
        }
    }
}
