//! A server as a thread of a workload sees it: its command line and its disks, on its own host.
//!
//! What is asked of a server that is broken ends: commands after [`PATIENCE`], as do reads and
//! writes of a disk (`nbd.rs`). Unlike `Farm` a seat may be sent to other threads.

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a command may take; longer than what the server itself waits for its database.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection to a server on the same host may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Where one sits to work with one server.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The server's name in the farm.
    pub name: String,
    /// The file of its network namespace.
    pub(crate) network: PathBuf,
    pub(crate) headwater: PathBuf,
    pub(crate) state: PathBuf,
}

impl Seat {
    /// Runs the command line; what it printed, or what it said when it failed.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network.display()));
        command.args(["timeout", "--signal=KILL", &PATIENCE.as_secs().to_string()]);
        command.arg(&self.headwater).arg("--state-dir").arg(&self.state).args(words);
        let output = command.stdin(Stdio::null()).output().context("could not start nsenter")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} on {}: {}", words.join(" "), self.name, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, as JSON.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let said = self.cli(&[words, &["--output", "json"]].concat())?;
        serde_json::from_str(&said).with_context(|| format!("{} is no JSON: {said}", words.join(" ")))
    }

    /// Connects to what listens at `address` on the server's host. Moves the calling thread there.
    pub(crate) fn connect(&self, address: &str) -> Result<TcpStream> {
        let network = File::open(&self.network)?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .context("a thread cannot enter a network namespace")?;
        let address: SocketAddr = address.parse().with_context(|| address.to_owned())?;
        let socket = TcpStream::connect_timeout(&address, CONNECT)?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

/// A text field of what a command printed.
pub fn text(value: &Value, field: &str) -> Result<String> {
    match value[field].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("there is no {field} in {value}"),
    }
}
