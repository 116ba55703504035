//! `headwater version promote VDISK VERSION --to test|production`

use super::{Which, changed, vdisk};
use crate::cli::Context;
use anyhow::{Context as _, Result};
use api::{Changed, Gate, PromoteTo, PromoteVersion, paths};
use clap::{Args, ValueEnum};
use model::Root;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Lets test or production devices boot a sealed version.
///
/// What is promoted is the content that this command has read: where somebody else changes the
/// version or promotes another one meanwhile, nothing is done.
#[derive(Args)]
pub(crate) struct Promote {
    #[command(flatten)]
    which: Which,
    /// Whom it is for
    #[arg(long, value_enum)]
    to: To,
    #[command(flatten)]
    gate: GateArgs,
    /// Refuses unless the version has this content [default: what it has now]
    #[arg(long, value_name = "ROOT")]
    root: Option<Root>,
    /// Promotes it even if no server has it completely
    #[arg(long, conflicts_with_all = ["at", "copies", "all_servers"])]
    force: bool,
    /// Says what would change, and changes nothing
    #[arg(long)]
    dry_run: bool,
}

/// Whom a version is for.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum To {
    /// Test devices
    Test,
    /// Production devices
    Production,
}

/// What must be so first.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct GateArgs {
    /// Waits until this time, such as 2026-12-01T22:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    at: Option<OffsetDateTime>,
    /// Waits until so many servers have it complete
    #[arg(long, value_name = "COUNT")]
    copies: Option<u32>,
    /// Waits until every server of the store has it complete
    #[arg(long)]
    all_servers: bool,
}

impl GateArgs {
    fn gate(&self) -> Option<Gate> {
        let at = self.at.map(|at| Gate::At { at_ms: (at.unix_timestamp_nanos() / 1_000_000) as u64 });
        let copies = || self.copies.map(|copies| Gate::Copies { copies });
        at.or_else(copies).or_else(|| self.all_servers.then_some(Gate::AllServers))
    }
}

fn time_of(text: &str) -> Result<OffsetDateTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339);
    let time = time.with_context(|| format!("{text} is no time such as 2026-12-01T22:00:00Z"))?;
    anyhow::ensure!(time.unix_timestamp() > 0, "{text} lies before 1970");
    Ok(time)
}

impl Promote {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let seen = vdisk(context, &self.which.vdisk).await?;
        let root = match self.root {
            Some(root) => root,
            None => self.which.read(context).await?.root,
        };
        let to = match self.to {
            To::Test => PromoteTo::Test,
            To::Production => PromoteTo::Production,
        };
        let (production, gate) = (seen.production, self.gate.gate());
        let body = PromoteVersion { to, root, production, gate, force: self.force, dry_run: self.dry_run };
        let done: Changed = context.client.post(&self.which.path(paths::VERSION_PROMOTE), &body).await?;
        changed(context, &done)
    }
}
