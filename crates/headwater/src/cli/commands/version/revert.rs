//! `headwater version revert VDISK [--to VERSION]`

use super::{changed, vdisk};
use crate::cli::Context;
use anyhow::{Context as _, Result};
use api::{Changed, RevertVersion, VDiskView, VersionState, paths};
use clap::Args;
use model::{AccessMode, Name};

/// Makes production devices boot an older version again, at once.
#[derive(Args)]
pub(crate) struct Revert {
    /// The vDisk's name
    vdisk: Name,
    /// The version to go back to [default: the newest production version below the present one]
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    /// Reverts even if no server has that version completely
    #[arg(long)]
    force: bool,
    /// Says what would change, and changes nothing
    #[arg(long)]
    dry_run: bool,
}

impl Revert {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let seen = vdisk(context, &self.vdisk).await?;
        let number = self.to.or_else(|| before(&seen)).with_context(|| {
            format!(
                "no version of vDisk {0} was in production before\nhint: `headwater version list {0}`; name one",
                self.vdisk
            )
        })?;
        let path = paths::of_version(paths::VERSION_REVERT, &self.vdisk, number);
        let body = RevertVersion { production: seen.production, force: self.force, dry_run: self.dry_run };
        let done: Changed = context.client.post(&path, &body).await?;
        changed(context, &done)
    }
}

/// The newest production version below the one that is there now.
fn before(vdisk: &VDiskView) -> Option<u32> {
    let was = |version: &&api::VersionView| {
        version.state == VersionState::Sealed
            && version.access == AccessMode::Production
            && !version.in_production
    };
    let now = vdisk.production.unwrap_or(u32::MAX);
    let older = vdisk.versions.iter().filter(was).filter(|version| version.number < now);
    older.map(|version| version.number).max()
}
