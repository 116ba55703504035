//! Tools for files: rsync over its own daemon, and the bare delta by HTTP.
//!
//! The source lies on host 0, the copy on host 1; before each run the copy is made what it was
//! before the update.

use super::{Counters, Run, cpu_of};
use crate::child;
use crate::lan::{self, Lan};
use crate::nbd::usage;
use crate::os_update::Pair;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);
const RSYNC_PORT: u16 = 873;
const HTTP_PORT: u16 = 80;

/// The daemons on host 0, and the copy that the tools bring up to date.
#[derive(Debug)]
pub struct Files<'a> {
    pub(super) lan: &'a Lan,
    pub(super) pair: &'a Pair,
    pub(super) copy: PathBuf,
    pub(super) directory: PathBuf,
    rsync: Daemon,
    nginx: Daemon,
}

/// A process that ends with its handle.
#[derive(Debug)]
pub(super) struct Daemon(Child);

impl Daemon {
    /// Starts `command` and waits until it listens.
    pub(super) fn start(command: &mut Command, host: usize, port: u16) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Self(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        let begun = Instant::now();
        while TcpStream::connect((lan::address(host), port)).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only where it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'a> Files<'a> {
    /// Starts the daemons; makes the copy.
    pub fn start(lan: &'a Lan, pair: &'a Pair, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let copy = directory.join("copy.raw");
        child::run(Command::new("cp").arg("--sparse=always").args([&pair.before, &copy]))?;
        let rsync = rsync_daemon(lan, pair, &directory)?;
        let nginx = nginx(lan, pair, &directory)?;
        Ok(Self { lan, pair, copy, directory, rsync, nginx })
    }

    /// `rsync --inplace` with more options.
    pub fn rsync(&self, options: &[&str]) -> Result<Run> {
        self.reset()?;
        let from = format!("rsync://{}/image/after.raw", lan::address(0));
        let mut command = self.lan.command(1, "rsync");
        command.args(["--inplace", "--fsync", "--ignore-times"]).args(options).arg(from).arg(&self.copy);
        let run = self.measure(&mut command, &[self.rsync.id()])?;
        self.pair.check(&self.pair.after, &self.copy)?;
        Ok(run)
    }

    /// The bare delta by HTTP into a file, durable.
    pub fn http(&self) -> Result<Run> {
        let url = format!("http://{}/delta.bin", lan::address(0));
        let to = self.directory.join("delta.bin");
        let mut command = self.lan.command(1, "sh");
        let script = "curl --silent --show-error --fail -o \"$2\" \"$1\" && sync \"$2\"";
        command.args(["-c", script, "sh", &url]).arg(&to);
        let run = self.measure(&mut command, &usage::family(self.nginx.id())?)?;
        ensure!(to.metadata()?.len() == self.pair.delta.metadata()?.len(), "curl did not bring all of it");
        fs::remove_file(to)?;
        Ok(run)
    }

    fn measure(&self, command: &mut Command, daemons: &[u32]) -> Result<Run> {
        let (cpu, counters) = (cpu_of(daemons)?, Counters::begin(self.lan, 2)?);
        let cost = child::run(command)?;
        let (wire, upload) = counters.end(self.lan)?;
        // The daemon's child of this run may end a moment after the client.
        std::thread::sleep(Duration::from_millis(100));
        let cpu = cost.cpu + cpu_of(daemons)?.saturating_sub(cpu);
        Ok(Run { wall: cost.wall, readable: cost.wall, cpu, wire, upload })
    }

    /// Makes the copy what it was before the update, all in the page cache as in every run.
    pub(super) fn reset(&self) -> Result<()> {
        self.pair.apply(&self.pair.before, &self.copy)?;
        for path in [&self.copy, &self.pair.after] {
            std::io::copy(&mut File::open(path)?, &mut std::io::sink())?;
        }
        Ok(())
    }
}

fn rsync_daemon(lan: &Lan, pair: &Pair, directory: &Path) -> Result<Daemon> {
    let folder = pair.after.canonicalize()?;
    let folder = folder.parent().context("the image lies in a directory")?.display().to_string();
    let config = directory.join("rsyncd.conf");
    let pid = directory.join("rsyncd.pid");
    let text = format!(
        "use chroot = no\nuid = root\ngid = root\npid file = {}\n[image]\npath = {folder}\nread only = yes\n",
        pid.display()
    );
    fs::write(&config, text)?;
    let mut command = lan.command(0, "rsync");
    command.args(["--daemon", "--no-detach", &format!("--port={RSYNC_PORT}")]);
    Daemon::start(command.arg(format!("--config={}", config.display())), 0, RSYNC_PORT)
}

fn nginx(lan: &Lan, pair: &Pair, directory: &Path) -> Result<Daemon> {
    let folder = pair.delta.canonicalize()?;
    let folder = folder.parent().context("the delta lies in a directory")?.display().to_string();
    let (config, own) = (directory.join("nginx.conf"), directory.display());
    let text = format!(
        "user root;\ndaemon off;\nworker_processes 1;\npid {own}/nginx.pid;\nerror_log {own}/nginx.log;\n\
         events {{ }}\nhttp {{ access_log off; sendfile on; server {{ listen {HTTP_PORT}; root {folder}; }} }}\n"
    );
    fs::write(&config, text)?;
    let mut command = lan.command(0, "nginx");
    Daemon::start(command.arg("-c").arg(&config), 0, HTTP_PORT)
}
