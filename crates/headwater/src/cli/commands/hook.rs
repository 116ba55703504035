//! `headwater hook list|test`

use crate::cli::Context;
use crate::cli::output::{Output, print, print_json};
use api::{HookReportView, HookView, TestHooks, paths};
use clap::Subcommand;
use model::Name;

/// Hooks: what runs against a copy of a draft before it is sealed.
#[derive(Subcommand)]
pub(crate) enum Hook {
    /// Lists the server's hooks, and why some are not run
    List,
    /// Runs hooks against a copy of a version and throws the copy away
    Test {
        /// The vDisk's name
        vdisk: Name,
        /// The version's number; of a draft, its last checkpoint is copied
        version: u32,
        /// Which hooks, in order [default: the vDisk's own]
        #[arg(long = "hook", value_name = "NAME", value_delimiter = ',')]
        hooks: Vec<Name>,
    },
}

impl Hook {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::List => list(context).await,
            Self::Test { vdisk, version, hooks } => test(context, &vdisk, version, hooks).await,
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

async fn test(context: &Context, vdisk: &Name, version: u32, hooks: Vec<Name>) -> anyhow::Result<()> {
    let path = paths::fill(&paths::fill(paths::HOOK_TEST, vdisk), version);
    let request = TestHooks { hooks: Some(hooks).filter(|hooks| !hooks.is_empty()) };
    let reports: Vec<HookReportView> = context.client.post(&path, &request).await?;
    if context.output == Output::Json {
        return print_json(&reports);
    }
    for report in &reports {
        report.lines.iter().try_for_each(|line| print(&format!("{}: {line}", report.hook)))?;
        print(&format!("{}: wrote to {} chunks of 64 KiB", report.hook, report.touched_chunks))?;
    }
    print("the copy is gone; nothing was changed")
}
