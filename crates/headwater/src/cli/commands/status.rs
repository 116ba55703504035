//! `headwater status`

use crate::cli::Context;
use api::{StatusView, paths};

/// Shows how the server and the farm stand.
pub(crate) async fn run(context: &Context) -> anyhow::Result<()> {
    let status: StatusView = context.client.get(paths::STATUS).await?;
    context.output.one(&status, |status| {
        vec![
            ("server", format!("{} at {}", status.server, context.client.url())),
            ("version", status.version.clone()),
            ("farm", status.farm.to_string()),
            ("up", format!("{} s", status.uptime_s)),
            ("vdisks", status.vdisks.to_string()),
            ("devices", status.devices.to_string()),
            ("collections", status.collections.to_string()),
            ("pending", status.pending.to_string()),
            ("sessions", status.sessions.to_string()),
            ("jobs", status.jobs.to_string()),
        ]
    })
}
