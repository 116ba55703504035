//! `headwater serve`

use crate::config::Config;
use crate::serve::LogFormat;
use clap::Args;
use std::path::PathBuf;

/// Runs the server until SIGTERM or Ctrl-C.
#[derive(Args)]
pub(crate) struct Serve {
    /// The configuration, a TOML file [default: all defaults; `headwater config show` prints them]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl Serve {
    /// Serves; `state_dir` of the command line wins over the file's.
    pub(crate) fn run(self, state_dir: Option<PathBuf>) -> anyhow::Result<()> {
        let config = Config::load_with_state_dir(self.config.as_deref(), state_dir)?;
        crate::serve::run(config, self.log_format)
    }
}
