//! Asking the connected servers how they are.

use crate::serve::farm::now;
use crate::serve::replication::Replication;
use api::ServerReport;
use futures::future::join_all;
use mesh::Peers;
use model::Name;
use protocol::mesh::{Class, Request, Response};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a server may take: an admin waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a server said, and its clock against ours.
pub(super) struct Answer {
    pub(super) report: ServerReport,
    /// How far its clock is before ours, in milliseconds.
    pub(super) clock_ms: i64,
    /// Half of the time that the question took.
    pub(super) clock_error_ms: u64,
}

/// Asks all at the same time; none for those that do not answer in time, or not so that it makes
/// sense.
pub(super) async fn all(replication: &Replication) -> BTreeMap<Name, Option<Answer>> {
    let Some(peers) = replication.peers() else { return BTreeMap::new() };
    let asked = peers.connected().into_iter().map(|name| {
        let peers = Arc::clone(&peers);
        async move {
            let peer = name.clone();
            let answer = tokio::task::spawn_blocking(move || one(&*peers, &peer)).await;
            (name, answer.expect("asking answers with an error"))
        }
    });
    join_all(asked).await.into_iter().collect()
}

/// Blocking.
fn one(peers: &dyn Peers, peer: &Name) -> Option<Answer> {
    let begun = now().0;
    let parts = peers.request(peer, Class::Control, Request::GetStatus).ok()?;
    let Ok(Response::Status(text)) = parts.recv_timeout(PATIENCE) else { return None };
    let ended = now().0;
    Some(compared(serde_json::from_slice(&text).ok()?, begun, ended))
}

fn compared(report: ServerReport, begun: u64, ended: u64) -> Answer {
    let half = ended.saturating_sub(begun) / 2;
    let clock_ms = report.now_ms.saturating_sub(begun + half).cast_signed()
        - (begun + half).saturating_sub(report.now_ms).cast_signed();
    Answer { report, clock_ms, clock_error_ms: half.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_question() {
        let at = |now_ms| ServerReport {
            version: String::new(),
            now_ms,
            up_since_ms: 0,
            certificate_ends_ms: None,
            stores: vec![],
            complete_versions: 0,
            lacking_versions: 0,
            missing_bytes: 0,
            bytes_per_s: 0,
            sessions: 0,
        };
        let clock = |now_ms| {
            let answer = compared(at(now_ms), 1000, 1200);
            (answer.clock_ms, answer.clock_error_ms)
        };
        assert_eq!(clock(1100), (0, 100));
        assert_eq!(clock(6100), (5000, 100));
        assert_eq!(clock(100), (-1000, 100));
    }
}
