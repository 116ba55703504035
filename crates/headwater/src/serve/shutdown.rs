//! The one signal that everything ends on.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells all parts of the server to stop; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    begun: watch::Sender<bool>,
}

impl Shutdown {
    /// Nothing stops yet.
    pub(crate) fn new() -> Self {
        Self { begun: watch::Sender::new(false) }
    }

    /// Begins the stop on SIGTERM and SIGINT.
    pub(crate) fn on_signals(&self) -> std::io::Result<()> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let this = self.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
            this.begin();
        });
        Ok(())
    }

    /// Begins the stop.
    pub(crate) fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Whether the stop has begun.
    pub(crate) fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits until the stop begins.
    pub(crate) async fn wait(&self) {
        let mut begun = self.begun.subscribe();
        // The sender is in `self`: it cannot be gone.
        let _ = begun.wait_for(|begun| *begun).await;
    }
}
