//! Runs our own commands as users do: shown as they are typed, in a process of their own.

use super::child::{self, Output, Program};
use super::screen::Screen;
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A server to send commands to.
pub(super) struct Shell<'a> {
    /// `headwater`.
    pub(super) program: &'a Path,
    /// Where the server's API is.
    pub(super) url: &'a str,
    /// The file with its admin's token.
    pub(super) token: PathBuf,
}

impl Shell<'_> {
    /// Shows a command and runs it against the server.
    pub(super) async fn run(&self, args: &[OsString], screen: &mut Screen) -> Result<()> {
        let token = std::fs::read_to_string(&self.token).context("the server wrote no token")?;
        let env = [("HEADWATER_URL", self.url), ("HEADWATER_TOKEN", token.trim())];
        show_and_run(Program { path: self.program, args, env: &env }, Stdio::inherit(), screen).await
    }
}

/// Shows a command and runs it; what it prints goes to `out`.
pub(super) async fn show_and_run(program: Program<'_>, out: Stdio, screen: &mut Screen) -> Result<()> {
    let words: Vec<_> = program.args.iter().map(|arg| arg.to_string_lossy()).collect();
    let words = words.join(" ");
    screen.say(&format!("$ headwater {words}"));
    let mut child = child::start(program, Output { out, err: Stdio::inherit() })?;
    let status = child.wait().await?;
    ensure!(status.success(), "`headwater {words}` failed ({status})");
    Ok(())
}
