//! `headwater version branch VDISK VERSION NEW`

use super::Which;
use crate::cli::Context;
use crate::cli::commands::vdisk;
use api::{BranchVersion, VDiskView, paths};
use clap::Args;
use model::Name;

/// Makes a new vDisk of a version; nothing is copied.
#[derive(Args)]
pub(crate) struct Branch {
    #[command(flatten)]
    which: Which,
    /// The new vDisk's name
    name: Name,
    /// What to say about its version 1
    #[arg(long, default_value = "")]
    comment: String,
}

impl Branch {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let body = BranchVersion { name: self.name, comment: self.comment };
        let made: VDiskView = context.client.post(&self.which.path(paths::VERSION_BRANCH), &body).await?;
        vdisk::show(context, &made)
    }
}
