//! `cargo xtask test`: every check and test, each step timed, the tests' totals as the last line.
//!
//! The end-to-end machines are ordinary tests of `crates/e2e`; `.config/nextest.toml` keeps them
//! from crowding each other. Read next: [`crate::tidy`].

use crate::binaries::{self, Build};
use crate::image;
use crate::packages::{self, Purpose};
use crate::process::{cargo, exists, is_root, output, run};
use crate::steps::{Outcome, Steps};
use crate::tidy;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs all of it; fails where any step failed.
pub(crate) fn everything() -> Result<()> {
    let mut steps = Steps::default();
    let mut totals = String::from("no tests ran");
    steps.check("system packages", || packages::install(Purpose::Test));
    steps.check("fmt", || cargo_run(&["fmt", "--all", "--check"]));
    steps.check("clippy", || cargo_run(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    steps.check("tidy", tidy::run);
    steps.run("cargo-deny", deny);
    steps.check("doc tests", || cargo_run(&["test", "--workspace", "--doc", "--quiet"]));
    steps.check("programs under test", || binaries::build(Build::Dev).map(|_| ()));
    steps.check("images", image::make_all);
    steps.check("tests", || tests(&mut totals));
    steps.print();
    let verdict = steps.verdict();
    println!("\n{totals}");
    verdict
}

fn cargo_run(arguments: &[&str]) -> Result<()> {
    run(cargo().args(arguments))
}

/// Licences, sources and bans are checked by `tidy` too, which needs neither this program nor a
/// network; advisories need both.
fn deny() -> Result<Outcome> {
    if !exists("cargo-deny") {
        return not_checked(
            "cargo-deny is not installed: advisories (tidy has checked licences, sources, bans)",
        );
    }
    cargo_run(&["deny", "check", "bans", "licenses", "sources"])?;
    let fetched = output(cargo().args(["deny", "fetch", "db"]));
    if fetched.is_err() {
        return not_checked("the advisory database is not reachable: advisories");
    }
    cargo_run(&["deny", "check", "advisories"])?;
    Ok(Outcome::Passed)
}

fn not_checked(what: &str) -> Result<Outcome> {
    eprintln!("!! NOT CHECKED: {what}");
    Ok(Outcome::NotChecked(what.to_owned()))
}

fn tests(totals: &mut String) -> Result<()> {
    let (told, passed) = run_tests(&[])?;
    *totals = told;
    ensure!(passed, "{totals}");
    Ok(())
}

/// Runs tests, all of the workspace where no `selection` is given; tells the totals, and whether
/// all have passed.
pub(crate) fn run_tests(selection: &[&str]) -> Result<(String, bool)> {
    run_tests_with(selection, &[])
}

/// [`run_tests`] with these variables in the tests' environment.
pub(crate) fn run_tests_with(selection: &[&str], variables: &[(&str, &Path)]) -> Result<(String, bool)> {
    let nextest = exists("cargo-nextest");
    let selection = if selection.is_empty() { &["--workspace"] } else { selection };
    let mut command = in_user_namespace();
    match nextest {
        true => command.args(["nextest", "run"]),
        false => command.arg("test"),
    };
    command.args(selection).arg("--no-fail-fast");
    command.envs(variables.iter().copied());
    if !nextest && selection == ["--workspace"] {
        // Doc tests have a step of their own.
        command.arg("--all-targets");
    }
    let (lines, passed) = followed(&mut command)?;
    let totals = if nextest { nextest_totals(&lines) } else { cargo_totals(&lines) };
    Ok((totals, passed))
}

/// Cargo, as root of a user namespace where this process is not root: the end-to-end tests make
/// network namespaces.
fn in_user_namespace() -> Command {
    let cargo = cargo();
    if is_root() {
        return cargo;
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--"]).arg(cargo.get_program());
    command
}

/// Runs the command with standard error shown and kept (nextest reports there), standard output
/// merged into it.
fn followed(command: &mut Command) -> Result<(Vec<String>, bool)> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer).stdin(Stdio::null());
    let mut child = command.spawn().context("could not start cargo")?;
    // The command keeps the pipe's writing ends; while it does, the reader would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        if line.contains("Summary [") || line.starts_with("test result:") {
            lines.push(line);
        }
    }
    Ok((lines, child.wait()?.success()))
}

fn nextest_totals(lines: &[String]) -> String {
    lines.last().map_or("nextest printed no summary".into(), |line| line.trim().to_owned())
}

/// Adds up `test result: ok. 3 passed; 0 failed; ...` over the test programs.
fn cargo_totals(lines: &[String]) -> String {
    let sum = |word: &str| -> u64 { lines.iter().filter_map(|line| count(line, word)).sum() };
    format!("{} tests passed, {} failed, {} ignored", sum("passed"), sum("failed"), sum("ignored"))
}

fn count(line: &str, word: &str) -> Option<u64> {
    let words: Vec<_> = line.split(|c: char| c.is_whitespace() || c == ';').collect();
    let at = words.iter().position(|found| *found == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_several_test_programs_add_up() {
        let line = |passed: u32| format!("test result: ok. {passed} passed; 1 failed; 2 ignored; 0 measured");
        let totals = cargo_totals(&[line(3), line(4)]);
        assert_eq!(totals, "7 tests passed, 2 failed, 4 ignored");
    }
}
