//! A hook that is a program of the admin's: its environment, its end, its output.
//!
//! It runs in a process group of its own, which is killed as a whole when it takes too long or the
//! program itself has ended: what stays behind must not write on.

use super::copy_disk::CopyDisk;
use super::output::Tail;
use super::served::Served;
use super::{HookError, Subject};
use model::Name;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::io::{self, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether somebody cancelled the seal.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Reads of its output before it is looked at the clock again: a program may never stop talking.
const READS_A_TURN: usize = 64;
/// Where a program finds its tools where the server itself was given no path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program about to be run.
pub(super) struct Program<'a> {
    pub(super) hook: &'a Name,
    pub(super) path: &'a Path,
    pub(super) subject: &'a Subject,
    pub(super) timeout: Duration,
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// How a program's run ended.
enum End {
    Exited(ExitStatus),
    TimedOut,
    Cancelled,
}

impl Program<'_> {
    /// Runs it to its end against `copy`; answers the last lines of its output.
    pub(super) fn run(&self, copy: &Arc<CopyDisk>) -> Result<Vec<String>, HookError> {
        let failed = |context| move |source| HookError::System { hook: self.hook.clone(), context, source };
        let directory = tempfile::Builder::new()
            .prefix("headwater-hook-")
            .tempdir()
            .map_err(failed("a directory for its socket"))?;
        let served = Served::start(copy, directory.path()).map_err(failed("an NBD server for it"))?;
        let mut group = self.start(served.uri(), directory.path()).map_err(failed("starting it"))?;
        let end = group.wait(self.timeout, self.cancelled).map_err(failed("waiting for it"))?;
        let output = group.end();
        drop(served);
        self.judge(end, output)
    }

    fn start(&self, uri: &str, directory: &Path) -> io::Result<Group> {
        let (said_here, said) = io::pipe()?;
        ioctl_fionbio(&said_here, true)?;
        let mut command = Command::new(self.path);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()))
            .env("TMPDIR", directory)
            .env("HOME", directory)
            .env("LC_ALL", "C.UTF-8")
            .env("HEADWATER_NBD_URI", uri)
            .env("HEADWATER_VDISK", self.subject.vdisk.as_str())
            .env("HEADWATER_VERSION", self.subject.number.to_string())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .process_group(0);
        let child = command.spawn()?;
        Ok(Group { child, said: said_here, output: Tail::default(), ended: false })
    }

    fn judge(&self, end: End, output: Tail) -> Result<Vec<String>, HookError> {
        let hook = self.hook.clone();
        match end {
            End::Exited(status) if status.success() => Ok(output.lines()),
            End::Exited(status) => Err(HookError::Failed { hook, status: status.to_string(), output }),
            End::TimedOut => Err(HookError::TimedOut { hook, after_s: self.timeout.as_secs(), output }),
            End::Cancelled => Err(HookError::Cancelled { hook }),
        }
    }
}

/// A program and what it started; dropping it kills all of them.
struct Group {
    child: Child,
    said: PipeReader,
    output: Tail,
    /// Whether the program was waited for: its number may be another's by now.
    ended: bool,
}

impl Group {
    fn wait(&mut self, timeout: Duration, cancelled: &dyn Fn() -> bool) -> io::Result<End> {
        let until = Instant::now() + timeout;
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        let mut listening = true;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let turn = Timespec::try_from(left.min(LOOK_EVERY)).map_err(io::Error::other)?;
            let said = if listening { PollFlags::IN } else { PollFlags::empty() };
            let mut watched = [PollFd::new(&process, PollFlags::IN), PollFd::new(&self.said, said)];
            // A pipe that everybody has closed would wake us for ever: leave it out.
            let count = if listening { 2 } else { 1 };
            match poll(&mut watched[..count], Some(&turn)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let exited = !watched[0].revents().is_empty();
            listening = listening && self.listen();
            match () {
                () if exited => return self.reap().map(End::Exited),
                () if cancelled() => return Ok(End::Cancelled),
                () if left.is_zero() => return Ok(End::TimedOut),
                () => {}
            }
        }
    }

    /// Takes in what was said so far; false when nobody can say anything any more.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; 4096];
        for _ in 0..READS_A_TURN {
            match self.said.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.output.add(&buffer[..count]),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Kills what is left of the group, then waits for the program: until then the number of both
    /// is taken.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        if let Err(error) = kill_process_group(Pid::from_child(&self.child), Signal::KILL) {
            tracing::debug!(%error, "a hook's group has ended already");
        }
        self.ended = true;
        self.child.wait()
    }

    /// Ends it; answers the last of what it said.
    fn end(mut self) -> Tail {
        if !self.ended {
            let _ = self.reap();
        }
        self.listen();
        std::mem::take(&mut self.output).finished()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.reap();
        }
    }
}
