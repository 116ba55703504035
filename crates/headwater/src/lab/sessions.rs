//! The lab server's sessions, asked for over the API as anybody may.

use super::floor::SessionNews;
use crate::client::{Client, ClientError};
use api::{SessionView, paths};
use std::time::{Duration, SystemTime};

/// Where to ask.
pub(super) struct Sessions {
    client: Client,
}

impl Sessions {
    /// Asks with this client.
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The devices' sessions, oldest first.
    pub(super) async fn list(&self) -> Result<Vec<SessionNews>, ClientError> {
        let sessions: Vec<SessionView> = self.client.get(paths::SESSIONS).await?;
        Ok(sessions.into_iter().filter_map(news).collect())
    }
}

/// What a session says of a machine's boot; an admin's session says nothing.
fn news(session: SessionView) -> Option<SessionNews> {
    let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    Some(SessionNews {
        mac: session.mac?,
        device: session.device?.to_string(),
        steps: session.timeline.into_iter().map(|step| (step.label, at(step.at_ms))).collect(),
        read_bytes: session.read_bytes,
        cache_bytes: session.write_cache.map(|cache| (cache.used_bytes, cache.limit_bytes)),
    })
}
