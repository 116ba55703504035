//! `headwater replication status|backlog|test` and its settings

mod settings;

use crate::byte_rate::ByteRate;
use crate::cli::Context;
use crate::cli::output::{bytes, or_dash};
use api::{ArrivalView, BacklogView, ReplicationView, Steer, TestPropagation, paths};
use clap::Subcommand;
use model::Name;
use settings::{Class, Windows};

/// What is still to come to a server from the others, and what may come when.
#[derive(Subcommand)]
pub(crate) enum Replication {
    /// Shows how replication to the server stands
    Status,
    /// Lists the versions that are not all on the server, and why
    Backlog,
    /// Lets a small content out and shows when each server had it
    Test {
        /// The store [default: the server's first]
        store: Option<Name>,
        /// How many seconds servers are waited for, at most 300
        #[arg(long, default_value_t = 60)]
        patience: u64,
    },
    /// Shows limits, pauses and the schedule of the farm
    Settings,
    /// Limits a class of what comes to each server
    Limit {
        /// The class
        #[arg(value_enum)]
        class: Class,
        /// Such as 20Mbit/s or 5MiB/s; none = unlimited
        rate: ByteRate,
    },
    /// Sets the time zone of the schedule
    Zone {
        /// Its name in the IANA database, such as Europe/Berlin
        zone: String,
    },
    /// The windows of the week in which less is allowed
    #[command(subcommand)]
    Window(Windows),
    /// Lets nothing come but what devices wait for
    Pause {
        /// Only of this vDisk
        vdisk: Option<Name>,
    },
    /// Ends a pause
    Resume {
        /// Only of this vDisk
        vdisk: Option<Name>,
    },
    /// Has the versions of a vDisk come whatever the schedule says
    Now {
        /// The vDisk
        vdisk: Name,
        /// Takes that back: they come when the schedule lets them
        #[arg(long)]
        undo: bool,
    },
}

impl Replication {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Status => status(context).await,
            Self::Backlog => backlog(context).await,
            Self::Test { store, patience } => test(context, store, patience).await,
            Self::Settings => settings::show(context).await,
            Self::Limit { class, rate } => settings::limit(context, class, rate).await,
            Self::Zone { zone } => settings::zone(context, zone).await,
            Self::Window(windows) => settings::windows(context, windows).await,
            Self::Pause { vdisk } => settings::steer(context, vdisk, Steer::Pause).await,
            Self::Resume { vdisk } => settings::steer(context, vdisk, Steer::Resume).await,
            Self::Now { vdisk, undo } => {
                let steer = if undo { Steer::AsScheduled } else { Steer::Now };
                settings::steer(context, Some(vdisk), steer).await
            }
        }
    }
}

async fn status(context: &Context) -> anyhow::Result<()> {
    let status: ReplicationView = context.client.get(paths::REPLICATION).await?;
    let heads = ["server", "connected to", "complete", "lacking", "missing", "rate"];
    let row = |status: &ReplicationView| {
        vec![
            status.server.to_string(),
            names(&status.peers),
            status.complete_versions.to_string(),
            status.lacking_versions.to_string(),
            bytes(status.missing_bytes),
            format!("{}/s", bytes(status.bytes_per_s)),
        ]
    };
    context.output.list(&[status], &heads, row)
}

async fn backlog(context: &Context) -> anyhow::Result<()> {
    let backlog: Vec<BacklogView> = context.client.get(paths::REPLICATION_BACKLOG).await?;
    let heads = ["vdisk", "version", "root", "missing", "rate", "ready in", "why", "sources"];
    context.output.list(&backlog, &heads, |row| {
        vec![
            row.vdisk.as_ref().map(ToString::to_string).unwrap_or_default(),
            row.version.map(|version| version.to_string()).unwrap_or_default(),
            row.root.short(),
            row.missing_bytes.map_or("not known yet".to_owned(), bytes),
            format!("{}/s", bytes(row.bytes_per_s)),
            row.eta_s.map(|eta| format!("{eta} s")).unwrap_or_default(),
            row.reason.text().to_owned(),
            names(&row.sources),
        ]
    })
}

async fn test(context: &Context, store: Option<Name>, patience_s: u64) -> anyhow::Result<()> {
    let request = TestPropagation { store, patience_s };
    let arrivals: Vec<ArrivalView> = context.client.post(paths::REPLICATION_TEST, &request).await?;
    context.output.list(&arrivals, &["store", "server", "had it after", ""], |arrival| {
        let after = arrival.arrived_after_ms.map(|ms| format!("{ms} ms"));
        let remark = match (arrival.is_origin, arrival.is_connected, arrival.arrived_after_ms) {
            (true, ..) => "let out here",
            (_, false, None) => "not connected",
            (_, true, None) => "connected, and has it not",
            _ => "",
        };
        vec![arrival.store.to_string(), arrival.server.to_string(), or_dash(after), remark.to_owned()]
    })?;
    let missing = arrivals.iter().filter(|arrival| arrival.arrived_after_ms.is_none()).count();
    anyhow::ensure!(
        missing == 0,
        "{missing} servers did not have it within {patience_s} s\nhint: `headwater replication backlog` on them says why"
    );
    Ok(())
}

fn names(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ")
}
