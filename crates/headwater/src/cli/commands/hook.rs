//! `headwater hook list`

use crate::cli::Context;
use api::{HookView, paths};
use clap::Subcommand;

/// Hooks: what runs against a copy of a draft before it is sealed.
#[derive(Subcommand)]
pub(crate) enum Hook {
    /// Lists the server's hooks, and why some are not run
    List,
}

impl Hook {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::List => list(context).await,
        }
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let hooks: Vec<HookView> = context.client.get(paths::HOOKS).await?;
    context.output.list(&hooks, &["name", "kind", "state"], |hook| {
        vec![
            hook.name.to_string(),
            if hook.built_in { "built in" } else { "program" }.to_owned(),
            hook.refused.clone().unwrap_or_else(|| "ready".to_owned()),
        ]
    })
}
