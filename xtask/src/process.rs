//! Running other programs: shown before they run, an error with the command line when they fail.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The root of the workspace, where every chore runs.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the workspace's root").to_owned()
}

/// The cargo that started this program, so that its toolchain is kept.
///
/// Without what `cargo run` tells the program that it runs: build scripts that look at it (ring's)
/// would run again, and everything above them would be built again, here and at the next build by
/// hand.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_a_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_a_package) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Shows the command, runs it with its output on the terminal, fails where it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("could not start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs the command quietly and gives back what it printed on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let result = captured(command)?;
    if !result.status.success() {
        let said = String::from_utf8_lossy(&result.stderr);
        bail!("{} ended with {}: {}", shown(command), result.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// Runs the command quietly and gives back everything, whatever its exit status.
pub(crate) fn captured(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("could not start {}", shown(command)))
}

/// Whether a program can be found in the search path (or in the sbin directories, which a plain
/// user's path often lacks).
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).any(|folder| folder.join(program).is_file())
}

/// Whether this process may administer the machine.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// A command that runs as root: through sudo where this process is not.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    // A script handed over as one argument is shown by its first line.
    let first_line = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        word.lines().next().unwrap_or_default().to_owned()
    };
    words.map(first_line).collect::<Vec<_>>().join(" ")
}
