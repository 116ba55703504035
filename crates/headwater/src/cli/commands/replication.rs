//! `headwater replication status|backlog`

use crate::cli::Context;
use crate::cli::output::bytes;
use api::{BacklogView, ReplicationView, paths};
use clap::Subcommand;

/// What is still to come to a server from the others.
#[derive(Subcommand)]
pub(crate) enum Replication {
    /// Shows how replication to the server stands
    Status,
    /// Lists the versions that are not all on the server, and why
    Backlog,
}

impl Replication {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Status => status(context).await,
            Self::Backlog => backlog(context).await,
        }
    }
}

async fn status(context: &Context) -> anyhow::Result<()> {
    let status: ReplicationView = context.client.get(paths::REPLICATION).await?;
    let heads = ["server", "connected to", "complete", "lacking", "missing", "rate"];
    let row = |status: &ReplicationView| {
        vec![
            status.server.to_string(),
            names(&status.peers),
            status.complete_versions.to_string(),
            status.lacking_versions.to_string(),
            bytes(status.missing_bytes),
            format!("{}/s", bytes(status.bytes_per_s)),
        ]
    };
    context.output.list(&[status], &heads, row)
}

async fn backlog(context: &Context) -> anyhow::Result<()> {
    let backlog: Vec<BacklogView> = context.client.get(paths::REPLICATION_BACKLOG).await?;
    let heads = ["vdisk", "version", "root", "missing", "rate", "ready in", "why", "sources"];
    context.output.list(&backlog, &heads, |row| {
        vec![
            row.vdisk.as_ref().map(ToString::to_string).unwrap_or_default(),
            row.version.map(|version| version.to_string()).unwrap_or_default(),
            row.root.short(),
            row.missing_bytes.map_or("not known yet".to_owned(), bytes),
            format!("{}/s", bytes(row.bytes_per_s)),
            row.eta_s.map(|eta| format!("{eta} s")).unwrap_or_default(),
            row.reason.text().to_owned(),
            names(&row.sources),
        ]
    })
}

fn names(names: &[model::Name]) -> String {
    names.iter().map(model::Name::as_str).collect::<Vec<_>>().join(" ")
}
