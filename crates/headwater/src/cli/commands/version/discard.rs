//! `headwater version discard VDISK VERSION --server SERVER --epochs FIRST-LAST`, and `orphans`

use super::{Which, show};
use crate::cli::Context;
use crate::cli::commands::vdisk;
use crate::cli::output::time_of;
use anyhow::{Result, ensure};
use api::{DiscardDraft, OrphanView, RestoreOrphan, VDiskView, VersionView, paths};
use clap::Args;
use model::Name;
use reqwest::Method;

/// Gives up what was written to a draft since its last checkpoint; the bytes are kept aside.
#[derive(Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    which: Which,
    /// The server that has them, as `version show` says
    #[arg(long)]
    server: Name,
    /// The epochs they were written in, as `version show` says: FIRST-LAST
    #[arg(long, value_name = "FIRST-LAST", value_parser = epochs)]
    epochs: (u64, u64),
}

fn epochs(text: &str) -> Result<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse()?, last.trim().parse()?);
    ensure!(first <= last, "{text} ends before it begins");
    Ok((first, last))
}

impl Discard {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let (from_epoch, epoch) = self.epochs;
        let body = DiscardDraft { server: self.server, from_epoch, epoch };
        let version: VersionView =
            context.client.post(&self.which.path(paths::VERSION_DISCARD), &body).await?;
        show::show(context, &version)
    }
}

pub(super) async fn orphans(context: &Context, vdisk: &Name) -> Result<()> {
    let orphans: Vec<OrphanView> = context.client.get(&paths::fill(paths::ORPHANS, vdisk)).await?;
    let heads = ["version", "server", "epochs", "kept as", "discarded", "by"];
    context.output.list(&orphans, &heads, |orphan| {
        vec![
            orphan.version.to_string(),
            orphan.server.to_string(),
            format!("{}-{}", orphan.from_epoch, orphan.to_epoch),
            orphan.stored_as.clone(),
            time_of(orphan.discarded.at_ms),
            orphan.discarded.by.clone(),
        ]
    })
}

/// Bytes that were kept aside.
#[derive(Args)]
pub(crate) struct Orphan {
    /// The vDisk's name
    vdisk: Name,
    /// The version's number
    version: u32,
    /// The last of their epochs, as `version orphans` says
    epoch: u64,
}

impl Orphan {
    fn path(&self, path: &str) -> String {
        paths::of_orphan(path, &self.vdisk, self.version, self.epoch)
    }

    pub(super) async fn restore(self, context: &Context, name: Name) -> Result<()> {
        let path = self.path(paths::ORPHAN_RESTORE);
        let made: VDiskView = context.client.post(&path, &RestoreOrphan { name }).await?;
        vdisk::show(context, &made)
    }

    pub(super) async fn delete(self, context: &Context) -> Result<()> {
        context.client.act(Method::DELETE, &self.path(paths::ORPHAN)).await?;
        context.output.done("the discarded bytes are deleted")
    }
}
