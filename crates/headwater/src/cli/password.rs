//! Passwords as people give them: typed without echo, or on standard input. Never as an argument,
//! which every process of the machine can read.

use crate::cli::Stopped;
use anyhow::{Context, Result};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr};
use std::io::{BufRead, Read, Stdin, Write};

/// What Ctrl-C sends.
const INTERRUPT: u8 = 3;
/// The longest password that is read, in bytes; the server refuses shorter ones already.
const MAX_BYTES: u64 = 4096;

/// Asks for a password; one line of standard input where that is no terminal.
pub(crate) fn ask(prompt: &str) -> Result<String> {
    let stdin = std::io::stdin();
    if !isatty(&stdin) {
        return line(&stdin);
    }
    eprint!("{prompt}: ");
    std::io::stderr().flush()?;
    let typed = {
        let _silent = Silent::new(&stdin).context("the terminal cannot be told not to echo")?;
        line(&stdin)
    };
    eprintln!();
    let typed = typed?;
    match typed.as_bytes().last() {
        Some(&INTERRUPT) => Err(Stopped("nothing was changed".to_owned()).into()),
        _ => Ok(typed),
    }
}

/// Asks for a new password, twice where somebody types it.
pub(crate) fn ask_new(prompt: &str) -> Result<String> {
    let first = ask(prompt)?;
    if isatty(std::io::stdin()) {
        anyhow::ensure!(ask("again")? == first, "the two are not the same\nhint: type it once more");
    }
    Ok(first)
}

fn line(stdin: &Stdin) -> Result<String> {
    let mut line = String::new();
    stdin.lock().take(MAX_BYTES).read_line(&mut line).context("the password is not text")?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    anyhow::ensure!(!line.is_empty(), "there is no password\nhint: type it, or give it on standard input");
    Ok(line.to_owned())
}

/// A terminal that does not echo, until dropped. Ctrl-C ends the line instead of the process, which
/// would leave the terminal as it is now.
struct Silent<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(stdin: &'a Stdin) -> Result<Self, rustix::io::Errno> {
        let before = tcgetattr(stdin)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(stdin, OptionalActions::Flush, &silent)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // Nothing is left to be done about a terminal that is gone.
        let _ = tcsetattr(self.stdin, OptionalActions::Flush, &self.before);
    }
}
