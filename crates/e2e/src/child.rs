//! A child process that ends with the test, whatever way the test ends.

use anyhow::{Context, Result, ensure};
use std::process::{Child, Command};

/// A running program, killed when dropped.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts `command`, which [`bound`] made.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn();
        Ok(Self(child.with_context(|| format!("could not start {command:?}"))?))
    }

    /// The running process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Sends it a signal by its name, such as `STOP`.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").args(["-s", signal, &self.id().to_string()]).status()?;
        ensure!(sent.success(), "signal {signal} was not sent to process {}", self.id());
        Ok(())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both fail only where the child has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that the kernel kills when the thread that starts it ends: a test that is itself
/// killed leaves nothing behind either.
pub fn bound(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}
