//! An Ethernet segment of its own, made of network namespaces.
//!
//! A namespace lives as long as the process that holds it (a `sleep`, started by [`Namespace`]), so
//! neither names nor cleaning up are needed, and tests never meet each other's traffic.

use crate::child::{Guarded, bound};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A network namespace with the process that keeps it alive.
#[derive(Debug)]
pub struct Namespace(Guarded);

impl Namespace {
    /// A fresh namespace with its loopback up.
    pub fn new() -> Result<Self> {
        let mut command = bound("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]);
        let mut holder = Guarded::start(command.stdout(Stdio::piped()).stdin(Stdio::null()))?;
        let stdout = holder.child().stdout.take().context("the holder's output is a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(
            line.trim() == "up",
            "a network namespace could not be made\nhint: end-to-end tests run as root, or under \
             `unshare --map-root-user` (cargo xtask test does that by itself)"
        );
        Ok(Self(holder))
    }

    /// A command that will run inside the namespace and end with the test.
    pub fn command(&self, program: &str) -> Command {
        let mut command = bound("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg("--").arg(program);
        command
    }

    /// The file by which a process enters the namespace.
    pub(crate) fn network_file(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.0.id()))
    }

    /// Runs `ip` with these words inside the namespace.
    pub fn ip(&self, words: &str) -> Result<()> {
        self.run("ip", words)
    }

    /// Runs a program with these words, separated by spaces, inside the namespace.
    pub(crate) fn run(&self, program: &str, words: &str) -> Result<()> {
        let output = self.command(program).args(words.split_whitespace()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {words}: {}", said.trim());
        Ok(())
    }
}

/// A bridge that hosts and machines are plugged into.
#[derive(Debug)]
pub struct Segment {
    switch: Namespace,
    ports: std::cell::Cell<u32>,
}

impl Segment {
    /// An empty segment.
    pub fn new() -> Result<Self> {
        let switch = Namespace::new()?;
        // No forwarding delay: a port that learns for 15 s would eat the first DHCP rounds.
        switch.ip("link add lan type bridge forward_delay 0 stp_state 0 mcast_snooping 0")?;
        switch.ip("link set lan up")?;
        Ok(Self { switch, ports: std::cell::Cell::new(0) })
    }

    /// Plugs in a host with `address` (`10.77.0.1/24`) on its interface `lan0`.
    pub fn host(&self, address: &str) -> Result<Host> {
        let namespace = Namespace::new()?;
        let port = self.next_port("host");
        let id = namespace.0.id();
        self.switch.ip(&format!("link add {port} type veth peer name lan0 netns {id}"))?;
        self.plug(&port)?;
        namespace.ip(&format!("address add {address} dev lan0"))?;
        namespace.ip("link set lan0 up")?;
        let address = address.split('/').next().unwrap_or_default().to_owned();
        Ok(Host { namespace, address, port })
    }

    /// Plugs in a tap for a machine and gives back its name; the machine's emulator must be
    /// started by [`Segment::command`].
    pub fn tap(&self) -> Result<String> {
        let port = self.next_port("tap");
        self.switch.ip(&format!("tuntap add {port} mode tap"))?;
        self.plug(&port)?;
        Ok(port)
    }

    /// A command that will run where the segment's bridge is.
    pub fn command(&self, program: &str) -> Command {
        self.switch.command(program)
    }

    /// The bridge's namespace, for whoever interferes with what passes it.
    pub(crate) fn switch(&self) -> &Namespace {
        &self.switch
    }

    fn plug(&self, port: &str) -> Result<()> {
        self.switch.ip(&format!("link set {port} master lan up"))
    }

    fn next_port(&self, kind: &str) -> String {
        self.ports.set(self.ports.get() + 1);
        format!("{kind}{}", self.ports.get())
    }
}

/// A namespace with one interface, `lan0`, on a segment.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    /// Its IPv4 address on the segment.
    pub address: String,
    /// The bridge's port that it is plugged into.
    pub(crate) port: String,
}

impl Host {
    /// A command that will run on the host.
    pub fn command(&self, program: &str) -> Command {
        self.namespace.command(program)
    }

    /// Its namespace, for whoever interferes with what it sends.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
