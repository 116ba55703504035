//! `headwater store prune|scrub|space`

use crate::cli::Context;
use crate::cli::output::{bytes, or_dash, time_of};
use anyhow::Result;
use api::{PruneStore, PruneView, ScrubView, StoreView, paths};
use clap::Args;
use model::Name;
use reqwest::Method;

/// Deletes what no version, draft or session needs.
#[derive(Args)]
pub(crate) struct Prune {
    /// The store [default: all of the server's]
    store: Option<Name>,
    /// Only says what would be deleted
    #[arg(long)]
    dry_run: bool,
}

/// Verifies all that is stored; without an option, shows how that stands.
#[derive(Args)]
pub(crate) struct Scrub {
    /// The store [default: all of the server's]
    store: Option<Name>,
    /// Begins now, or goes on where it was stopped
    #[arg(long, conflicts_with = "stop")]
    now: bool,
    /// Stops it
    #[arg(long)]
    stop: bool,
    /// Shows how it stands: what it does without an option, too
    #[arg(long, conflicts_with_all = ["now", "stop"])]
    status: bool,
}

impl Prune {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let mut pruned: Vec<PruneView> = Vec::new();
        for store in stores(context, self.store).await? {
            let path = paths::fill(paths::STORE_PRUNE, store);
            pruned.push(context.client.post(&path, &PruneStore { dry_run: self.dry_run }).await?);
        }
        let heads = ["store", if self.dry_run { "would delete" } else { "deleted" }, "layers", "contents"];
        context.output.list(&pruned, &heads, |pruned| {
            let roots: Vec<String> = pruned.roots.iter().map(model::Root::short).collect();
            vec![
                pruned.store.to_string(),
                bytes(pruned.bytes),
                pruned.layers.to_string(),
                or_dash((!roots.is_empty()).then(|| roots.join(" "))),
            ]
        })
    }
}

impl Scrub {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let method = match (self.now, self.stop) {
            (true, _) => Method::POST,
            (_, true) => Method::DELETE,
            _ => Method::GET,
        };
        let mut scrubs: Vec<ScrubView> = Vec::new();
        for store in stores(context, self.store).await? {
            let path = paths::fill(paths::STORE_SCRUB, store);
            scrubs.push(context.client.json(context.client.request(method.clone(), &path)).await?);
        }
        let heads = ["store", "now", "verified", "in quarantine", "last", "found", "next"];
        context.output.list(&scrubs, &heads, |scrub| {
            vec![
                scrub.store.to_string(),
                if scrub.running { "at work" } else { "-" }.to_owned(),
                format!(
                    "{}, {} of {} versions",
                    bytes(scrub.done_bytes),
                    scrub.done_versions,
                    scrub.total_versions
                ),
                format!("{} chunks", scrub.quarantined_chunks),
                or_dash(scrub.last.as_ref().map(|last| time_of(last.ended_ms))),
                or_dash(scrub.last.as_ref().map(found)),
                or_dash(scrub.next_ms.map(|at| if at == 0 { "due".to_owned() } else { time_of(at) })),
            ]
        })
    }
}

fn found(last: &api::LastScrub) -> String {
    match (last.bad_chunks, last.damaged_versions) {
        (0, 0) => format!("all whole, {}", bytes(last.bytes)),
        (chunks, versions) => {
            format!(
                "{chunks} chunks damaged, {} repaired, {versions} versions unreadable",
                last.repaired_chunks
            )
        }
    }
}

/// Shows the room of each store.
pub(super) async fn space(context: &Context) -> Result<()> {
    let stores: Vec<StoreView> = context.client.get(paths::STORES).await?;
    let heads = ["store", "state", "used", "free", "of", "low below", "ample from", "in quarantine"];
    context.output.list(&stores, &heads, |store| {
        vec![
            store.name.to_string(),
            store.space.clone(),
            bytes(store.used_bytes),
            bytes(store.free_bytes),
            bytes(store.total_bytes),
            bytes(store.low_bytes),
            bytes(store.high_bytes),
            format!("{} chunks", store.quarantined_chunks),
        ]
    })
}

/// The store that was named, else all of the server's.
async fn stores(context: &Context, named: Option<Name>) -> Result<Vec<Name>> {
    if let Some(name) = named {
        return Ok(vec![name]);
    }
    let all: Vec<StoreView> = context.client.get(paths::STORES).await?;
    Ok(all.into_iter().map(|store| store.name).collect())
}
