//! `headwater version pending [VDISK]`

use super::vdisk;
use crate::cli::Context;
use crate::cli::output::time_of;
use anyhow::Result;
use api::{Gate, GateView, VDiskView, paths};
use clap::Args;
use model::Name;
use serde::Serialize;

/// Lists promoted versions that wait, and what for.
#[derive(Args)]
pub(crate) struct Pending {
    /// Only this vDisk's
    vdisk: Option<Name>,
}

#[derive(Serialize)]
struct Waiting {
    vdisk: Name,
    version: u32,
    gate: GateView,
}

impl Pending {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let vdisks: Vec<VDiskView> = match &self.vdisk {
            Some(name) => vec![vdisk(context, name).await?],
            None => context.client.get(paths::VDISKS).await?,
        };
        let waiting: Vec<Waiting> = vdisks.into_iter().flat_map(waiting).collect();
        context.output.list(&waiting, &["vdisk", "version", "waits for", "missing"], |waiting| {
            vec![
                waiting.vdisk.to_string(),
                waiting.version.to_string(),
                gate_text(&waiting.gate.gate),
                waiting.gate.missing.join("; "),
            ]
        })
    }
}

fn waiting(vdisk: VDiskView) -> Vec<Waiting> {
    let VDiskView { name, versions, .. } = vdisk;
    let gated = versions.into_iter().filter_map(|version| Some((version.number, version.gate?)));
    gated.map(|(version, gate)| Waiting { vdisk: name.clone(), version, gate }).collect()
}

/// What a gate waits for, for people.
pub(super) fn gate_text(gate: &Gate) -> String {
    match gate {
        Gate::At { at_ms } => time_of(*at_ms),
        Gate::Copies { copies } => format!("{copies} complete copies"),
        Gate::AllServers => "all servers of the store".to_owned(),
    }
}
