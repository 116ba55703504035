//! `headwater store list|check|prune|scrub|space`

mod care;
pub(crate) mod check;

use crate::cli::Context;
use crate::cli::output::bytes;
use api::{StoreView, paths};
use clap::Subcommand;

/// Where the vDisks lie.
#[derive(Subcommand)]
pub(crate) enum Store {
    /// Lists the server's stores and their space
    List,
    /// Verifies a store's directory while no server has it open; changes nothing
    Check(check::Check),
    /// Deletes what no version, draft or session needs
    Prune(care::Prune),
    /// Verifies all that is stored, or shows how that stands
    Scrub(care::Scrub),
    /// Shows the room of each store, and when it is low
    Space,
}

impl Store {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::List => list(context).await,
            Self::Check(check) => check.run(context.output),
            Self::Prune(prune) => prune.run(context).await,
            Self::Scrub(scrub) => scrub.run(context).await,
            Self::Space => care::space(context).await,
        }
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let stores: Vec<StoreView> = context.client.get(paths::STORES).await?;
    context.output.list(&stores, &["name", "vdisks", "used", "free", "of", "path"], |store| {
        vec![
            store.name.to_string(),
            store.vdisks.to_string(),
            bytes(store.used_bytes),
            bytes(store.free_bytes),
            bytes(store.total_bytes),
            store.path.clone(),
        ]
    })
}
