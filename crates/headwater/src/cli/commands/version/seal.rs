//! `headwater version seal VDISK VERSION`

use super::Which;
use crate::cli::Context;
use api::{SealVersion, paths};
use clap::Args;
use model::Name;

/// Ends a draft: the version never changes again.
#[derive(Args)]
pub(crate) struct Seal {
    #[command(flatten)]
    which: Which,
    /// Runs this against a copy first; where it fails, nothing has changed. May be repeated
    #[arg(long = "hook", value_name = "NAME")]
    hooks: Vec<Name>,
    /// Seals what was written as it is: not even the vDisk's own hooks run. The audit keeps it
    #[arg(long, conflicts_with = "hooks")]
    no_hooks: bool,
}

impl Seal {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let (which, body) = (self.which, SealVersion { hooks: self.hooks, no_hooks: self.no_hooks });
        which.follow(context, context.client.post(&which.path(paths::VERSION_SEAL), &body)).await
    }
}
