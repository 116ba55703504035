//! The sessions of the lab's servers, asked for over the API as anybody may.

use super::floor::SessionNews;
use crate::client::{Client, ClientError};
use api::{SessionView, paths};
use std::time::{Duration, SystemTime};

/// Where to ask.
pub(super) struct Sessions {
    servers: Vec<Client>,
}

impl Sessions {
    /// Asks each of these servers.
    pub(super) fn new(servers: Vec<Client>) -> Self {
        Self { servers }
    }

    /// The devices' sessions on the servers that answer, oldest first on each.
    pub(super) async fn list(&self) -> Vec<SessionNews> {
        let mut all = Vec::new();
        for server in &self.servers {
            // One that was killed is asked again next time.
            let sessions: Result<Vec<SessionView>, ClientError> = server.get(paths::SESSIONS).await;
            all.extend(sessions.unwrap_or_default().into_iter().filter_map(news));
        }
        all
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
