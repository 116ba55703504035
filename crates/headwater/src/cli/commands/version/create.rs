//! `headwater version create VDISK`

use super::show;
use crate::cli::Context;
use api::{NewVersion, paths};
use clap::Args;
use model::Name;

/// Makes a maintenance version that one writer may change.
#[derive(Args)]
pub(crate) struct Create {
    /// The vDisk's name
    vdisk: Name,
    /// The sealed version to begin with [default: the one in production]
    #[arg(long, value_name = "VERSION")]
    from: Option<u32>,
    /// What to say about it
    #[arg(long, default_value = "")]
    comment: String,
}

impl Create {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let new = NewVersion { parent: self.from, comment: self.comment };
        show::show(context, &context.client.post(&paths::fill(paths::VERSIONS, self.vdisk), &new).await?)
    }
}
