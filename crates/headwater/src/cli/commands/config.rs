//! `headwater config show|check`

use crate::cli::output::print;
use crate::config::Config as Loaded;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Shows and checks the server's configuration.
#[derive(Subcommand)]
pub(crate) enum Config {
    /// Prints the configuration in force, every key explained
    Show(File),
    /// Says whether a configuration can be used
    Check(File),
}

#[derive(Args)]
pub(crate) struct File {
    /// The configuration [default: all defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Config {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show(File { config }) => print(Loaded::load(config.as_deref())?.explained().trim_end()),
            Self::Check(File { config }) => {
                Loaded::load(config.as_deref())?;
                print("the configuration can be used")
            }
        }
    }
}
