//! `headwater version pin VDISK VERSION` and `unpin VDISK`

use super::{Which, changed, vdisk};
use crate::cli::Context;
use anyhow::Result;
use api::{Changed, paths};
use clap::Args;
use model::Name;

/// Makes machines boot this version whatever is promoted.
#[derive(Args)]
pub(crate) struct Pin {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    whose: Whose,
    /// Says what would change, and changes nothing
    #[arg(long)]
    dry_run: bool,
}

/// Takes a pin away.
#[derive(Args)]
pub(crate) struct Unpin {
    /// The vDisk's name
    vdisk: Name,
    #[command(flatten)]
    whose: Whose,
    /// Says what would change, and changes nothing
    #[arg(long)]
    dry_run: bool,
}

/// Whose machines: the whole vDisk's unless one of them is given.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct Whose {
    /// Only this collection's
    #[arg(long)]
    collection: Option<Name>,
    /// Only this device
    #[arg(long)]
    device: Option<Name>,
}

impl Whose {
    fn body(self, dry_run: bool) -> api::Pin {
        api::Pin { collection: self.collection, device: self.device, dry_run }
    }
}

impl Pin {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let body = self.whose.body(self.dry_run);
        let done: Changed = context.client.post(&self.which.path(paths::VERSION_PIN), &body).await?;
        changed(context, &done)
    }
}

impl Unpin {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let seen = vdisk(context, &self.vdisk).await?;
        // The number only says which version is shown; the pin goes whatever it names.
        let number = seen.pinned.or(seen.production).unwrap_or(1);
        let path = paths::of_version(paths::VERSION_UNPIN, &self.vdisk, number);
        let done: Changed = context.client.post(&path, &self.whose.body(self.dry_run)).await?;
        changed(context, &done)
    }
}
