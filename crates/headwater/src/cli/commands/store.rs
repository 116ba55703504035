//! `headwater store list`

use crate::cli::Context;
use crate::cli::output::bytes;
use api::{StoreView, paths};
use clap::Subcommand;

/// Where the vDisks lie.
#[derive(Subcommand)]
pub(crate) enum Store {
    /// Lists the server's stores and their space
    List,
}

impl Store {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Self::List = self;
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
}
