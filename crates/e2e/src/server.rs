//! A `headwater serve` on a host of a segment, and the command line against it.

use crate::child::Guarded;
use crate::mounted::Mounted;
use crate::needs::Programs;
use crate::network::Host;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// What the server's store lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The machine's disk.
    Disk,
    /// A file system of 320 MiB that only the server sees; the store keeps 256 MiB of it free.
    SmallFileSystem,
    /// A file system of so many MiB that outlives the server and can be filled ([`Server::mounted`]).
    Mounted {
        /// Its size.
        mib: u32,
    },
}

/// A server, running or not; its store and its farm database go with it.
#[derive(Debug)]
pub struct Server {
    process: Option<Guarded>,
    programs: Programs,
    place: Place,
    mounted: Option<Mounted>,
    folder: TempDir,
}

impl Server {
    /// The folder's placeholder in a configuration text.
    pub const FOLDER: &str = "@FOLDER@";
    /// The agent's placeholder in a configuration text.
    pub const AGENT: &str = "@AGENT@";

    /// Starts the server with a configuration in which the placeholders are replaced.
    pub fn start(host: &Host, programs: &Programs, place: Place, config: &str) -> Result<Self> {
        let mut server = Self::prepare(programs, place, config)?;
        server.start_again(host)?;
        Ok(server)
    }

    /// Writes the configuration of a server that is started later.
    pub fn prepare(programs: &Programs, place: Place, config: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("headwater-e2e-").tempdir_in("/var/tmp")?;
        let path = |path: &Path| path.display().to_string();
        let config = config.replace(Self::FOLDER, &path(folder.path()));
        let config = config.replace(Self::AGENT, &path(&programs.agent));
        std::fs::write(folder.path().join("headwater.toml"), config)?;
        let store = folder.path().join("state/store");
        std::fs::create_dir_all(&store)?;
        let mounted = match place {
            Place::Mounted { mib } => Some(Mounted::new(&store, mib)?),
            Place::Disk | Place::SmallFileSystem => None,
        };
        Ok(Self { process: None, programs: programs.clone(), place, mounted, folder })
    }

    /// Ends the server as `kill -9` does; its connections break, its state stays.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.child().kill()?;
            process.child().wait()?;
        }
        Ok(())
    }

    /// Starts a server that was prepared or killed on what it left.
    pub fn start_again(&mut self, host: &Host) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.program_on(host);
        command.arg("serve").arg("--config").arg(self.config_path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(Guarded::start(&mut command)?);
        Ok(())
    }

    /// Sends the server a signal, such as `STOP` and `CONT`.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let process = self.process.as_ref().context("the server does not run")?;
        process.signal(signal)
    }

    /// Starts a server with the same configuration but a state of its own, which must fail, and
    /// gives back what it said.
    pub fn second(&self, host: &Host) -> Result<String> {
        let mut command = host.command(&self.programs.headwater.display().to_string());
        command.arg("--state-dir").arg(self.folder.path().join("second"));
        command.arg("serve").arg("--config").arg(self.folder.path().join("headwater.toml"));
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(!output.status.success(), "a second server serves on the same ports");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
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
        let alive = |process: &Guarded| Path::new(&format!("/proc/{}/exe", process.id())).exists();
        Ok(!self.process.as_ref().is_some_and(alive))
    }

    /// The configuration's file.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("headwater.toml")
    }

    /// The state directory.
    pub fn state_path(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The store's directory.
    pub fn store_path(&self) -> PathBuf {
        match &self.mounted {
            Some(mounted) => mounted.path(),
            None => self.state_path().join("store"),
        }
    }

    /// The file system of its own that the store lies on, where it has one.
    pub fn mounted(&self) -> Option<&Mounted> {
        self.mounted.as_ref()
    }

    /// Runs the command line where the store is seen, and without the server.
    pub fn offline(&self, host: &Host, words: &[&str]) -> Result<Output> {
        let mut command = self.program_on(host);
        command.args(words).stdin(Stdio::null()).output().context("could not start headwater")
    }

    /// The server's program where it sees its store.
    fn program_on(&self, host: &Host) -> Command {
        self.in_its_place(host, &self.programs.headwater)
    }

    /// A program where the server would see its store.
    pub(crate) fn in_its_place(&self, host: &Host, program: &Path) -> Command {
        match (&self.mounted, self.place) {
            (Some(mounted), _) => {
                let mut command = host.command("nsenter");
                mounted.enter(&mut command, program);
                command
            }
            (None, Place::SmallFileSystem) => {
                on_small_file_system(host, &self.folder.path().join("state/store"), program)
            }
            (None, _) => host.command(&program.display().to_string()),
        }
    }

    /// The path of the program.
    pub(crate) fn program(&self) -> &Path {
        &self.programs.headwater
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("serve.log")
    }
}

/// A command that runs `program` with a small file system mounted on `folder`, in a mount
/// namespace of its own.
fn on_small_file_system(host: &Host, folder: &Path, program: &Path) -> Command {
    let script = "mount -t tmpfs -o size=320m none \"$0\" && exec \"$@\"";
    let mut command = host.command("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(folder).arg(program);
    command
}
