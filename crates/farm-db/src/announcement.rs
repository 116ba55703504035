//! The handle of a record that says that somebody is alive.

use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long taking back a record may take before it is left to its time to live.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps a record alive; dropping it has the record removed soon.
#[derive(Debug)]
pub struct Announcement {
    stop: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

impl Announcement {
    /// Wraps the engine's keeper, which removes the record and ends when `stop` is gone.
    pub(crate) fn new(stop: oneshot::Sender<()>, keeper: JoinHandle<()>) -> Self {
        Self { stop, keeper }
    }

    /// Removes the record and waits until that is done, for a few seconds at most.
    pub async fn withdraw(self) {
        drop(self.stop);
        // A keeper that does not end in time leaves the record to its time to live.
        let _ = tokio::time::timeout(PATIENCE, self.keeper).await;
    }
}
