//! `headwater pending list|accept|reject|forget`

use crate::cli::Context;
use crate::cli::output::time_of;
use api::{AcceptPending, PendingView, paths};
use clap::Subcommand;
use model::{MacAddress, Name};
use reqwest::Method;

/// Unknown machines that wait to be accepted.
#[derive(Subcommand)]
pub(crate) enum Pending {
    /// Lists the machines that wait
    List,
    /// Makes a device of a machine that waits
    Accept {
        /// The machine's address
        mac: MacAddress,
        /// The device's name [default: made by the collection's pattern]
        #[arg(long)]
        name: Option<Name>,
        /// The device's collection
        #[arg(long, default_value = "default")]
        collection: Name,
    },
    /// Keeps a machine from booting; it can still be accepted
    Reject {
        /// The machine's address
        mac: MacAddress,
    },
    /// Takes a machine off the list; it comes back if it asks again
    Forget {
        /// The machine's address
        mac: MacAddress,
    },
}

impl Pending {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = &context.client;
        match self {
            Self::List => list(context).await,
            Self::Accept { mac, name, collection } => {
                let accept = AcceptPending { name, collection: Some(collection) };
                let device = client.post(&paths::fill(paths::PENDING_ACCEPT, mac), &accept).await?;
                super::device::show(context, &device)
            }
            Self::Reject { mac } => {
                client.act(Method::POST, &paths::fill(paths::PENDING_REJECT, mac)).await?;
                context.output.done(&format!("{mac} is rejected"))
            }
            Self::Forget { mac } => {
                client.act(Method::DELETE, &paths::fill(paths::PENDING_ONE, mac)).await?;
                context.output.done(&format!("{mac} is off the list"))
            }
        }
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let pending: Vec<PendingView> = context.client.get(paths::PENDING).await?;
    context.output.list(&pending, &["mac", "first seen", "last seen", "state"], |pending| {
        vec![
            pending.mac.to_string(),
            time_of(pending.first_seen_ms),
            time_of(pending.last_seen_ms),
            if pending.rejected { "rejected" } else { "waiting" }.to_owned(),
        ]
    })
}
