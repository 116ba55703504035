//! `headwater server list`

use crate::cli::Context;
use crate::cli::output::time_of;
use api::{ServerView, paths};
use clap::Subcommand;

/// The servers of the farm.
#[derive(Subcommand)]
pub(crate) enum Server {
    /// Lists all servers
    List,
}

impl Server {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Self::List = self;
        let servers: Vec<ServerView> = context.client.get(paths::SERVERS).await?;
        context.output.list(&servers, &["name", "site", "since", "this"], |server| {
            vec![
                server.name.to_string(),
                server.site.to_string(),
                time_of(server.created_ms),
                if server.this { "yes" } else { "" }.to_owned(),
            ]
        })
    }
}
