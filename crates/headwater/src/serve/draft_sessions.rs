//! Sessions that write to drafts: where the session table and the draft service meet.

use super::boot_service::BootService;
use super::drafts::{Boots, DraftError, DraftKey};
use super::sessions::{Holder, SessionInfo, SessionMode, Token, TokenHash};
use farm::{Boot, EventKind, NewEvent};
use model::Root;
use std::sync::Arc;
use std::time::SystemTime;

impl BootService {
    /// The content that a maintenance device begins with: its kernel must be the one that the draft
    /// holds now, not the one of the last checkpoint.
    pub(super) async fn present_root(&self, boot: &Boot) -> Result<Root, DraftError> {
        let key = DraftKey::new(&boot.vdisk, boot.version);
        let connected = |(_, info, idle): &(TokenHash, SessionInfo, Option<SystemTime>)| {
            idle.is_none() && key_of(info) == key
        };
        if self.sessions.draft_holders(SystemTime::now()).iter().any(connected) {
            // Somebody asks for the script of a machine that runs: it is not disturbed.
            return Ok(boot.root);
        }
        match self.drafts.dirty_bytes(&key) {
            Some(bytes) if bytes > 0 => Ok(self.drafts.checkpoint(&key, Boots::Look, None).await?.root),
            _ => Ok(boot.root),
        }
    }

    /// Gives a device's session the draft that it boots; its older sessions end. Does nothing where
    /// that is so already, and for sessions that share their version.
    pub(super) async fn attach_draft(&self, token: &Token) -> Result<(), DraftError> {
        let _one_at_a_time = self.attaching.lock().await;
        let Some(info) = self.sessions.find(token) else { return Ok(()) };
        let SessionMode::Draft { epoch } = info.mode else { return Ok(()) };
        let (key, hash) = (key_of(&info), token.hash());
        if epoch.is_some_and(|epoch| self.drafts.is_open(&key, epoch)) {
            return Ok(());
        }
        let device = match &info.holder {
            Holder::Device { name, .. } => Some(name.clone()),
            Holder::Admin => None,
        };
        let attached = self.drafts.attach(&key, device).await?;
        for (other, info, _) in self.sessions.draft_holders(SystemTime::now()) {
            if other != hash && key_of(&info) == key {
                // Its epoch has passed; its connections are closed when they are looked at next.
                self.sessions.close(other);
            }
        }
        let (sessions, epoch, disk) = (Arc::clone(&self.sessions), attached.epoch, attached.disk);
        let kept = tokio::task::spawn_blocking(move || sessions.attach(hash, epoch, disk)).await;
        if let Err(error) = kept.expect("writing a record does not panic") {
            tracing::error!(%error, %key, "the session ends with the server: its record cannot be written");
        }
        Ok(())
    }

    /// A device is done with its disk: what it wrote is saved and somebody else may have the draft.
    pub(super) async fn device_stopped(&self, token: &Token) {
        let Some(info) = self.sessions.find(token) else { return };
        if matches!(info.mode, SessionMode::Draft { epoch: Some(_) }) {
            self.give_back(&info).await;
            let (sessions, hash) = (Arc::clone(&self.sessions), token.hash());
            let released = tokio::task::spawn_blocking(move || sessions.released(hash));
            released.await.expect("writing a record does not panic");
        }
    }

    /// Ends a session that may write to a draft: saves what it wrote and gives the lease back.
    pub(super) async fn end_draft_session(&self, hash: TokenHash) {
        // The table first: no connection begins while the draft goes away.
        if let Some(closed) = self.sessions.close(hash) {
            self.give_back(&closed.info).await;
        }
    }

    /// Saves what a session wrote to its draft and gives the lease back.
    pub(super) async fn give_back(&self, info: &SessionInfo) {
        let SessionMode::Draft { epoch: Some(epoch) } = info.mode else { return };
        let key = key_of(info);
        if let Err(error) = self.drafts.detach(&key, epoch).await {
            let message = format!("{key} is given back without a new checkpoint: {error}");
            self.farm.event(NewEvent::new(EventKind::ServiceFailed, &info.vdisk, message));
        }
    }
}

/// The draft that a session is for.
pub(super) fn key_of(info: &SessionInfo) -> DraftKey {
    DraftKey::new(&info.vdisk, info.version)
}
