//! A `headwater serve` on a host of a segment, and the command line against it.

use crate::child::Guarded;
use crate::needs::Programs;
use crate::network::Host;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use tempfile::TempDir;

/// A running server; its store and its farm database go with it.
#[derive(Debug)]
pub struct Server {
    process: Guarded,
    programs: Programs,
    folder: TempDir,
}

impl Server {
    /// The folder's placeholder in a configuration text.
    pub const FOLDER: &str = "@FOLDER@";
    /// The agent's placeholder in a configuration text.
    pub const AGENT: &str = "@AGENT@";

    /// Starts the server with a configuration in which the placeholders are replaced.
    pub fn start(host: &Host, programs: &Programs, config: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("headwater-e2e-").tempdir_in("/var/tmp")?;
        let path = |path: &std::path::Path| path.display().to_string();
        let config = config.replace(Self::FOLDER, &path(folder.path()));
        let config = config.replace(Self::AGENT, &path(&programs.agent));
        let file = folder.path().join("headwater.toml");
        std::fs::write(&file, config)?;
        let log = std::fs::File::create(folder.path().join("serve.log"))?;
        let mut command = host.command(&path(&programs.headwater));
        command.arg("serve").arg("--config").arg(&file).stdin(Stdio::null());
        let process = Guarded::start(command.stdout(log.try_clone()?).stderr(log))?;
        Ok(Self { process, programs: programs.clone(), folder })
    }

    /// Runs the command line on the server's host, and fails where it fails.
    pub fn cli(&self, host: &Host, words: &[&str]) -> Result<String> {
        let output = self.try_cli(host, words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "headwater {}: {}\n{}", words.join(" "), said.trim(), self.log());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the command line on the server's host, whatever comes of it.
    pub fn try_cli(&self, host: &Host, words: &[&str]) -> Result<Output> {
        let mut command = host.command(&self.programs.headwater.display().to_string());
        command.arg("--state-dir").arg(self.folder.path().join("state"));
        command.args(words).stdin(Stdio::null()).output().context("could not start headwater")
    }

    /// The end of the server's log, for a failure's message.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        format!("the server's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"))
    }

    /// Whether the server has stopped by itself.
    pub fn has_ended(&self) -> Result<bool> {
        Ok(!std::path::Path::new(&format!("/proc/{}/exe", self.process.id())).exists())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("serve.log")
    }
}
