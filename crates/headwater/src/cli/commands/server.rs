//! `headwater server list|show|remove`

use crate::cli::Context;
use crate::cli::output::{or_dash, time_of};
use anyhow::{Context as _, Result};
use api::{ServerView, paths};
use clap::Subcommand;
use model::Name;
use reqwest::Method;

/// The servers of the farm.
#[derive(Subcommand)]
pub(crate) enum Server {
    /// Lists all servers
    List,
    /// Shows a server
    Show {
        /// The server
        name: Name,
    },
    /// Takes a server out of the farm: the others refuse it from then on
    Remove {
        /// The server
        name: Name,
        /// Give up the things that only this server has, whose digest the refusal without it says; for
        /// a machine that is gone for good
        #[arg(long, value_name = "DIGEST")]
        give_up: Option<String>,
    },
}

impl Server {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        match self {
            Self::List => list(context).await,
            Self::Show { name } => show(context, &name).await,
            Self::Remove { name, give_up } => {
                let path = paths::fill(paths::SERVER, name.as_str());
                if let Some(digest) = give_up.as_ref().filter(|digest| !is_digest(digest)) {
                    let hint = "the refusal without --give-up says it";
                    anyhow::bail!("{digest:?} is no digest: eight hexadecimal digits\nhint: {hint}");
                }
                let query = give_up.map(|digest| format!("?give_up={digest}")).unwrap_or_default();
                context.client.act(Method::DELETE, &format!("{path}{query}")).await?;
                context.output.done(&format!("server {name} is no member of the farm any more"))
            }
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

async fn list(context: &Context) -> Result<()> {
    let servers: Vec<ServerView> = context.client.get(paths::SERVERS).await?;
    context.output.list(&servers, &["name", "site", "since", "this", "address"], |server| {
        vec![
            server.name.to_string(),
            server.site.to_string(),
            time_of(server.created_ms),
            if server.this { "yes" } else { "" }.to_owned(),
            or_dash(server.address.as_ref()),
        ]
    })
}

async fn show(context: &Context, name: &Name) -> Result<()> {
    let servers: Vec<ServerView> = context.client.get(paths::SERVERS).await?;
    let server = servers.into_iter().find(|server| server.name == *name);
    let none = || format!("there is no server {name}\nhint: `headwater server list` shows what there is");
    context.output.one(&server.with_context(none)?, |server| {
        vec![
            ("name", server.name.to_string()),
            ("site", server.site.to_string()),
            ("since", time_of(server.created_ms)),
            ("address", or_dash(server.address.as_ref())),
            ("starts", or_dash(server.incarnation)),
        ]
    })
}
