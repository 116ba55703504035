//! `headwater adopt [FILE...]`: what was brought by other means need not travel.

use crate::cli::Context;
use crate::cli::job::follow;
use crate::cli::output::bytes;
use anyhow::Context as _;
use api::{AdoptFile, AdoptedView, StoreView, paths};
use clap::Args;
use model::Name;
use reqwest::Method;
use std::path::PathBuf;

/// Files or directories whose chunks the server copies instead of fetching them.
#[derive(Args)]
pub(crate) struct Adopt {
    /// Disk images (raw or qcow2), or directories of stores, that the server can read; without any,
    /// shows what is adopted
    files: Vec<PathBuf>,
    /// The store that lacks them [default: the server's first]
    #[arg(long)]
    store: Option<Name>,
    /// Lets go of what was adopted before; the files are not touched
    #[arg(long, conflicts_with = "files")]
    forget: bool,
}

impl Adopt {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let store = match self.store {
            Some(store) => store,
            None => {
                let stores: Vec<StoreView> = context.client.get(paths::STORES).await?;
                stores.into_iter().next().context("the server has no store")?.name
            }
        };
        let path = paths::fill(paths::STORE_ADOPT, &store);
        if self.forget {
            context.client.act(Method::DELETE, &path).await?;
        }
        for file in self.files {
            let cannot = |error| {
                anyhow::anyhow!("{} cannot be read: {error}\nhint: is its name right?", file.display())
            };
            let request = AdoptFile { path: file.canonicalize().map_err(cannot)? };
            follow(context, context.client.post(&path, &request)).await?;
        }
        let adopted: AdoptedView = context.client.get(&path).await?;
        context.output.one(&adopted, |adopted| {
            let files = adopted.files.iter().map(|file| ("file", file.display().to_string()));
            let heads =
                [("store", adopted.store.to_string()), ("copied from files", bytes(adopted.taken_bytes))];
            heads.into_iter().chain(files).collect()
        })
    }
}
