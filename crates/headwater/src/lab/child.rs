//! The lab's children: the server and the machines.
//!
//! They live in process groups of their own, so that Ctrl-C reaches the lab alone and it ends them
//! in order; and they die with the lab even where it is killed without a chance to say goodbye.
//!
//! The kernel ends a child when the *thread* that started it ends: start children on the main
//! thread only, which lives as long as the lab does.

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// A program to start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program<'a> {
    /// The executable.
    pub(super) path: &'a Path,
    /// Its arguments.
    pub(super) args: &'a [OsString],
    /// What its environment has beside the lab's own.
    pub(super) env: &'a [(&'a str, &'a str)],
}

/// Where a child's output goes.
pub(super) struct Output {
    /// Its standard output.
    pub(super) out: Stdio,
    /// Its standard error.
    pub(super) err: Stdio,
}

/// Starts a child that does not outlive the lab.
pub(super) fn start(program: Program<'_>, output: Output) -> io::Result<Child> {
    let mut command = Command::new(program.path);
    command
        .args(program.args)
        .envs(program.env.iter().copied())
        .stdin(Stdio::null())
        .stdout(output.out)
        .stderr(output.err);
    command.process_group(0).kill_on_drop(true);
    die_with_parent(&mut command);
    command.spawn()
}

/// Asks a child to end, and ends it where it has not within `grace`.
pub(super) async fn end(child: &mut Child, grace: Duration) {
    let asked = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = asked {
        // It may have ended in this very moment; then there is nothing to ask.
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(grace, child.wait()).await.is_err() {
        // As above; what is left is collected by init.
        let _ = child.kill().await;
    }
}

#[expect(unsafe_code, reason = "std offers no other way to run code between fork and exec")]
fn die_with_parent(command: &mut Command) {
    let set = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes
    // one prctl system call and allocates nothing.
    unsafe { command.pre_exec(set) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str) -> Child {
        let args = ["-c".into(), script.into()];
        let program = Program { path: Path::new("/bin/sh"), args: &args, env: &[] };
        start(program, Output { out: Stdio::piped(), err: Stdio::null() }).unwrap()
    }

    #[tokio::test]
    async fn a_child_that_listens_ends_at_once() {
        let mut child = shell("exec sleep 600");
        let begun = Instant::now();
        end(&mut child, Duration::from_secs(60)).await;
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(child.try_wait().unwrap().is_some());
    }

    #[tokio::test]
    async fn a_child_that_does_not_listen_ends_after_its_grace() {
        use tokio::io::AsyncReadExt;
        let mut child = shell("trap '' TERM; echo deaf; while :; do sleep 1; done");
        let mut said = [0; 4];
        child.stdout.take().unwrap().read_exact(&mut said).await.unwrap();
        end(&mut child, Duration::from_millis(50)).await;
        assert!(child.try_wait().unwrap().is_some());
    }
}
