//! `headwater version create|list|show|checkpoint|seal|promote|revert|pin|unpin|retire|delete|
//! branch|merge|comment|pending|discard|orphans`

mod branch;
mod create;
mod discard;
mod pending;
mod pin;
mod promote;
mod revert;
mod seal;
mod show;

use crate::cli::Context;
use crate::cli::job::follow;
use crate::cli::output::print;
use crate::client::ClientError;
use api::{Changed, DryRun, JobView, PatchVersion, VDiskView, VersionView, paths};
use clap::{Args, Subcommand};
use model::Name;
use reqwest::Method;

pub(super) use show::table;

/// Versions: the numbered states of a vDisk.
#[derive(Subcommand)]
pub(crate) enum Version {
    /// Makes a maintenance version that one writer may change
    Create(create::Create),
    /// Lists the versions of a vDisk
    List {
        /// The vDisk's name
        vdisk: Name,
    },
    /// Shows one version
    Show(Which),
    /// Makes what a draft holds now durable as a content of its own; its machine runs on
    Checkpoint(Which),
    /// Ends a draft: the version never changes again
    Seal(seal::Seal),
    /// Lets test or production devices boot a sealed version
    Promote(promote::Promote),
    /// Makes production devices boot an older version again, at once
    Revert(revert::Revert),
    /// Makes a vDisk's, a collection's or a device's machines boot this version whatever is promoted
    Pin(pin::Pin),
    /// Takes a pin away
    Unpin(pin::Unpin),
    /// Lets go of a version that nothing boots any more; it can still be branched
    Retire(Which),
    /// Deletes a version
    Delete(Which),
    /// Makes a new vDisk of a version; nothing is copied
    Branch(branch::Branch),
    /// Makes a version a base of its own, so that older ones can go; machines run on
    Merge(Which),
    /// Says something about a version
    Comment {
        #[command(flatten)]
        which: Which,
        /// The new comment
        text: String,
    },
    /// Lists promoted versions that wait, and what for
    Pending(pending::Pending),
    /// Takes a draft away from whoever holds it; nothing that was written is given up
    Release(Which),
    /// Gives up what was written to a draft since its last checkpoint; the bytes are kept aside
    Discard(discard::Discard),
    /// Lists the bytes that were kept aside
    Orphans {
        /// The vDisk's name
        vdisk: Name,
    },
    /// Makes a vDisk of bytes that were kept aside; its version 1 is in test
    RestoreOrphan {
        #[command(flatten)]
        which: discard::Orphan,
        /// The new vDisk's name
        name: Name,
    },
    /// Deletes bytes that were kept aside, for good
    DeleteOrphan(discard::Orphan),
}

/// A version.
#[derive(Args)]
pub(crate) struct Which {
    /// The vDisk's name
    vdisk: Name,
    /// The version's number
    version: u32,
}

impl Which {
    fn path(&self, path: &str) -> String {
        paths::of_version(path, &self.vdisk, self.version)
    }

    async fn read(&self, context: &Context) -> anyhow::Result<VersionView> {
        Ok(context.client.get(&self.path(paths::VERSION)).await?)
    }

    /// Does something that takes a while, then shows the version.
    async fn follow(
        &self,
        context: &Context,
        request: impl Future<Output = Result<JobView, ClientError>>,
    ) -> anyhow::Result<()> {
        follow(context, request).await?;
        show::show(context, &self.read(context).await?)
    }
}

impl Version {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = &context.client;
        match self {
            Self::Create(create) => create.run(context).await,
            Self::List { vdisk } => show::list(context, &vdisk).await,
            Self::Show(which) => show::show(context, &which.read(context).await?),
            Self::Checkpoint(which) => {
                which.follow(context, client.post(&which.path(paths::VERSION_CHECKPOINT), &())).await
            }
            Self::Seal(seal) => seal.run(context).await,
            Self::Promote(promote) => promote.run(context).await,
            Self::Revert(revert) => revert.run(context).await,
            Self::Pin(pin) => pin.run(context).await,
            Self::Unpin(unpin) => unpin.run(context).await,
            Self::Retire(which) => {
                show::show(context, &client.post(&which.path(paths::VERSION_RETIRE), &()).await?)
            }
            Self::Delete(which) => {
                client.act(Method::DELETE, &which.path(paths::VERSION)).await?;
                context.output.done(&format!("version {} of vDisk {} is deleted", which.version, which.vdisk))
            }
            Self::Branch(branch) => branch.run(context).await,
            Self::Merge(which) => {
                show::show(context, &client.post(&which.path(paths::VERSION_MERGE), &()).await?)
            }
            Self::Comment { which, text } => {
                let patch = PatchVersion { comment: text };
                show::show(context, &client.patch(&which.path(paths::VERSION), &patch).await?)
            }
            Self::Pending(pending) => pending.run(context).await,
            Self::Release(which) => {
                show::show(context, &client.post(&which.path(paths::VERSION_RELEASE), &()).await?)
            }
            Self::Discard(discard) => discard.run(context).await,
            Self::Orphans { vdisk } => discard::orphans(context, &vdisk).await,
            Self::RestoreOrphan { which, name } => which.restore(context, name).await,
            Self::DeleteOrphan(which) => which.delete(context).await,
        }
    }
}

/// A vDisk as the admin sees it now: what changes send along, so that nothing unseen is changed.
async fn vdisk(context: &Context, name: &Name) -> anyhow::Result<VDiskView> {
    Ok(context.client.get(&paths::fill(paths::VDISK, name)).await?)
}

/// Prints what a change made, or would make.
fn changed(context: &Context, changed: &Changed) -> anyhow::Result<()> {
    match changed {
        Changed::Version(version) => show::show(context, version),
        Changed::DryRun(dry_run) => would(context, dry_run),
    }
}

fn would(context: &Context, dry_run: &DryRun) -> anyhow::Result<()> {
    if context.output == crate::cli::output::Output::Table {
        dry_run.would.iter().try_for_each(|line| print(&format!("would be done: {line}")))?;
        print(&format!(
            "{} devices would boot something else from their next boot on",
            dry_run.devices.len()
        ))?;
        if dry_run.devices.is_empty() {
            return Ok(());
        }
        return context.output.list(&dry_run.devices, &["device", "boots now", "would boot"], |device| {
            vec![device.name.to_string(), device.now.clone(), device.then.clone()]
        });
    }
    crate::cli::output::print_json(dry_run)
}
