//! The servers that are compared: started the same way, on the same image, stopped by their pid.

use super::load;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The export's name on every server.
pub const EXPORT: &str = "disk";
/// The bound on mapped memory of our server: the configured chunk cache of the measurements.
pub const MAPPED_CACHE_BYTES: u64 = 6 << 30;
const START_UP: Duration = Duration::from_secs(20);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours, over a stored version.
    Headwater,
    /// nbdkit with its file plugin.
    Nbdkit,
    /// qemu-nbd with io_uring, else with threads.
    QemuNbd,
    /// nbd-server.
    NbdServer,
}

impl Kind {
    /// Us first, then the peers.
    pub const ALL: [Self; 4] = [Self::Headwater, Self::Nbdkit, Self::QemuNbd, Self::NbdServer];

    /// The name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Headwater => "headwater",
            Self::Nbdkit => "nbdkit file",
            Self::QemuNbd => "qemu-nbd",
            Self::NbdServer => "nbd-server",
        }
    }
}

/// What servers serve: the raw image, and a store that has imported it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The raw image.
    pub image: &'a Path,
    /// The store's directory.
    pub store: &'a Path,
    /// Where configuration files may be put.
    pub scratch: &'a Path,
}

/// A running server; ended when dropped.
pub struct Server {
    /// Which one.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    pid: u32,
    child: Option<Child>,
}

impl Server {
    /// Starts a server and waits until it serves.
    pub fn start(kind: Kind, source: Source<'_>) -> Result<Self> {
        let server = match kind {
            Kind::Headwater => start_ours(source)?,
            Kind::Nbdkit => start_foreground(kind, nbdkit(source)?)?,
            Kind::QemuNbd => start_qemu(source)?,
            Kind::NbdServer => start_nbd_server(source)?,
        };
        server.wait_until_it_serves()?;
        Ok(server)
    }

    /// The process, for [`super::usage`].
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the process is still there.
    pub fn is_alive(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => Path::new("/proc").join(self.pid.to_string()).exists(),
        }
    }

    fn wait_until_it_serves(&self) -> Result<()> {
        let end = Instant::now() + START_UP;
        loop {
            match load::open(self.address, EXPORT) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    return Err(error.context(format!("{} does not serve", self.kind.name())));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.pid as i32).expect("a process has a number");
        // It may have ended by itself; then there is nothing to end.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn start_ours(source: Source<'_>) -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg("--store").arg(source.store).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start our server")?;
    let output = child.stdout.take().context("our server has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let address = line.trim().parse().with_context(|| format!("our server said {line:?}"))?;
    Ok(Server { kind: Kind::Headwater, address, pid: child.id(), child: Some(child) })
}

fn nbdkit(source: Source<'_>) -> Result<(Command, SocketAddr)> {
    let address = free_address()?;
    let mut command = Command::new("nbdkit");
    command.args(["-f", "-r", "-i", "127.0.0.1", "-p", &address.port().to_string(), "file"]);
    command.arg(source.image);
    Ok((command, address))
}

fn qemu_nbd(source: Source<'_>, aio: &str) -> Result<(Command, SocketAddr)> {
    let address = free_address()?;
    let mut command = Command::new("qemu-nbd");
    command.args(["-r", "-t", "-f", "raw", "-e", "256", "-x", EXPORT, "-b", "127.0.0.1"]);
    command.args(["-p", &address.port().to_string(), "--cache", "writeback", "--aio", aio]);
    command.arg(source.image);
    Ok((command, address))
}

fn start_qemu(source: Source<'_>) -> Result<Server> {
    let mut server = start_foreground(Kind::QemuNbd, qemu_nbd(source, "io_uring")?)?;
    std::thread::sleep(Duration::from_millis(200)); // it ends at once where io_uring is missing
    if server.is_alive() {
        return Ok(server);
    }
    start_foreground(Kind::QemuNbd, qemu_nbd(source, "threads")?)
}

fn start_foreground(kind: Kind, (mut command, address): (Command, SocketAddr)) -> Result<Server> {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.with_context(|| format!("cannot start {}: is its package installed?", kind.name()))?;
    Ok(Server { kind, address, pid: child.id(), child: Some(child) })
}

/// nbd-server serves several clients only as a daemon, so its pid comes from a file.
fn start_nbd_server(source: Source<'_>) -> Result<Server> {
    let address = free_address()?;
    let (config, pid_file) = (source.scratch.join("nbd-server.conf"), source.scratch.join("nbd-server.pid"));
    let text = format!(
        "[generic]\nlistenaddr = 127.0.0.1\nport = {}\n[{EXPORT}]\nexportname = {}\nreadonly = true\n",
        address.port(),
        source.image.canonicalize()?.display()
    );
    fs::write(&config, text)?;
    let _ = fs::remove_file(&pid_file);
    let mut command = Command::new("nbd-server");
    command
        .arg("-C")
        .arg(config.canonicalize()?)
        .arg("-p")
        .arg(fs::canonicalize(source.scratch)?.join("nbd-server.pid"));
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.context("cannot start nbd-server: is its package installed?")?;
    if !status.success() {
        bail!("nbd-server ended with {status}");
    }
    let pid = wait_for_pid(&pid_file)?;
    Ok(Server { kind: Kind::NbdServer, address, pid, child: None })
}

fn wait_for_pid(file: &Path) -> Result<u32> {
    let end = Instant::now() + START_UP;
    while Instant::now() < end {
        if let Some(pid) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(pid);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("nbd-server wrote no {}", file.display())
}
