//! A real `headwater serve`, the command line against it, and the thread that kills it.
//!
//! Its ports are free ones of the loopback interface; its files are in one directory.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a start may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// The configuration's name in the directory.
const CONFIG_FILE: &str = "server.toml";

/// Where a server runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it listens.
    pub address: Ipv4Addr,
    /// The words before the program's own that bring it to its host.
    pub prefix: Vec<String>,
}

impl Default for Place {
    /// Here, on the loopback interface.
    fn default() -> Self {
        Self { address: Ipv4Addr::LOCALHOST, prefix: Vec::new() }
    }
}

/// A server that can be killed and started again on the same directory.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    directory: PathBuf,
    /// The words before the program's own, where it runs on a host of its own.
    prefix: Vec<String>,
    child: Arc<Mutex<Option<Child>>>,
    killed: Arc<AtomicBool>,
}

impl Server {
    /// A server that is not started yet; `directory` is made anew.
    pub fn new(program: &Path, directory: &Path) -> Result<Self> {
        Self::named("kill", "", program, directory)
    }

    /// The same with a name, and more lines of configuration.
    pub fn named(name: &str, more: &str, program: &Path, directory: &Path) -> Result<Self> {
        Self::at(&Place::default(), name, more, program, directory)
    }

    /// The same at a certain place.
    pub fn at(place: &Place, name: &str, more: &str, program: &Path, directory: &Path) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        let address = place.address;
        let config = format!(
            "[server]\nname = '{name}'\n[http]\nlisten = '{address}:0'\n[nbd]\nlisten = '{address}:0'\n{more}"
        );
        fs::write(directory.join(CONFIG_FILE), config)?;
        let program = program.canonicalize().with_context(|| {
            format!("{} is not there\nhint: cargo build --package headwater", program.display())
        })?;
        let (child, killed) = (Arc::default(), Arc::default());
        let (directory, prefix) = (directory.canonicalize()?, place.prefix.clone());
        Ok(Self { program, directory, prefix, child, killed })
    }

    /// Starts it and waits until it answers.
    pub fn start(&self) -> Result<()> {
        let url = self.directory.join("state/api.url");
        let _ = fs::remove_file(&url);
        let log = fs::File::options().create(true).append(true).open(self.directory.join("log"))?;
        let mut command = match self.prefix.split_first() {
            None => Command::new(&self.program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        command.arg("serve").arg("--config").arg(self.config());
        command.arg("--state-dir").arg(self.directory.join("state"));
        command.env_remove("HEADWATER_URL").env_remove("HEADWATER_TOKEN");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.killed.store(false, Ordering::SeqCst);
        *self.child() = Some(command.spawn()?);
        let begun = Instant::now();
        while !url.exists() {
            let ended = self.child().as_mut().context("it was just started")?.try_wait()?;
            if let Some(status) = ended {
                bail!("the server ended with {status} at its start:\n{}", self.last_lines());
            }
            ensure!(begun.elapsed() < PATIENCE, "the server does not start:\n{}", self.last_lines());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// kill -9 after `delay`, from another thread.
    pub fn kill_after(&self, delay: Duration) -> std::thread::JoinHandle<()> {
        let (child, killed) = (Arc::clone(&self.child), Arc::clone(&self.killed));
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            // Before the kill: whoever meets a dead server must know why.
            killed.store(true, Ordering::SeqCst);
            if let Some(mut child) = child.lock().expect("no holder panics").take() {
                // It may have ended by itself; what it left is looked at in any case.
                let _ = child.kill();
                let _ = child.wait();
            }
        })
    }

    /// Whether the kill has been sent.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// kill -9 now.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Runs a command that must succeed; what it prints as JSON.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let printed = self.run(&[words, &["--output", "json"]].concat())?;
        serde_json::from_str(&printed).with_context(|| format!("headwater {} prints JSON", words.join(" ")))
    }

    /// Runs a command that must succeed; what it prints.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(&self.directory).stdin(Stdio::null());
        command.env_remove("HEADWATER_URL").env_remove("HEADWATER_TOKEN");
        let output = command.env("HEADWATER_STATE_DIR", self.directory.join("state")).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "headwater {} failed: {}", words.join(" "), said.trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The id of its process.
    pub fn id(&self) -> Result<u32> {
        Ok(self.child().as_ref().context("the server runs")?.id())
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join(CONFIG_FILE)
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The directory of its store.
    pub fn store(&self) -> PathBuf {
        self.state().join("store")
    }

    /// Bytes that it has caused to be written to disks since its start (proc(5), `write_bytes`).
    pub fn written_bytes(&self) -> Result<u64> {
        let id = self.id()?;
        let io = fs::read_to_string(format!("/proc/{id}/io"))?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.context("/proc has write_bytes")?.parse()?)
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().expect("no holder panics")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where a development build or a release puts `headwater`: beside the running program.
pub fn beside_this_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|folder: &Path| folder.join("headwater"));
    found.into_iter().find(|path| path.is_file()).context(
        "there is no headwater beside this program\nhint: cargo build --package headwater (with --release for a release build)",
    )
}
