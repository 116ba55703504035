//! Hosts on a network of their own: namespaces around a bridge, with counters and slow links.
//!
//! The program that uses it runs in a namespace itself ([`enter`]), where the bridge is, and reaches
//! every host from there; when it ends, however it ends, nothing is left. Hosts are numbered from 0;
//! host 0 is 10.77.0.1, the bridge [`HUB`].

use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// The bridge's own address.
pub const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
/// Bytes that wait before a slow link, as in a small switch.
const QUEUE_BYTES: u32 = 128 * 1024;
/// Set in the process that runs inside.
const INSIDE: &str = "HEADWATER_BENCH_INSIDE";

/// Starts this program again in network and mount namespaces of its own, unless it is there
/// already.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--"]).arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    let error = command.env(INSIDE, "1").exec();
    Err(error).context("cannot start unshare\nhint: `cargo xtask setup` installs util-linux")
}

/// The bridge and the hosts.
#[derive(Debug)]
pub struct Lan {
    hosts: Vec<Host>,
}

/// One host; its namespace lives as long as the process that holds it.
#[derive(Debug)]
struct Host {
    holder: Child,
}

/// What passed a host's card, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// What it sent.
    pub sent: u64,
    /// What it received.
    pub received: u64,
}

impl Traffic {
    /// What passed since `before`.
    pub fn since(self, before: Self) -> Self {
        Self { sent: self.sent - before.sent, received: self.received - before.received }
    }
}

impl Lan {
    /// So many hosts, all plugged in.
    pub fn new(count: usize) -> Result<Self> {
        ip("link set lo up").context("a network namespace is needed\nhint: run this as root")?;
        ip("link add lan type bridge forward_delay 0 stp_state 0 mcast_snooping 0")?;
        ip(&format!("address add {HUB}/24 dev lan"))?;
        ip("link set lan up")?;
        let mut lan = Self { hosts: Vec::new() };
        for number in 0..count {
            lan.add(number)?;
        }
        Ok(lan)
    }

    fn add(&mut self, number: usize) -> Result<()> {
        let script = "ip link set lo up && echo up && exec sleep infinity";
        let mut holder = Command::new("setpriv");
        holder
            .args(["--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut host = Host { holder: holder.spawn().context("unshare cannot be started")? };
        let mut line = String::new();
        BufReader::new(host.holder.stdout.take().context("it is a pipe")?).read_line(&mut line)?;
        ensure!(line.trim() == "up", "a network namespace cannot be made\nhint: run this as root");
        let (id, port) = (host.holder.id(), port(number));
        self.hosts.push(host);
        ip(&format!("link add {port} type veth peer name lan0 netns {id}"))?;
        ip(&format!("link set {port} master lan up"))?;
        self.run(number, "ip", &format!("address add {}/24 dev lan0", address(number)))?;
        self.run(number, "ip", "link set lan0 up")
    }

    /// The words that make a command run on a host, and end with the thread that starts it, before
    /// its own.
    pub fn prefix(&self, host: usize) -> Vec<String> {
        let id = self.hosts[host].holder.id();
        let enter = format!("--net=/proc/{id}/ns/net");
        ["setpriv", "--pdeathsig", "KILL", "nsenter", &enter, "--"].map(str::to_owned).into()
    }

    /// A command on a host, ended by the kernel when the thread that starts it ends.
    pub fn command(&self, host: usize, program: &str) -> Command {
        let prefix = self.prefix(host);
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg(program);
        command
    }

    /// What passed a host's card so far.
    pub fn traffic(&self, host: usize) -> Result<Traffic> {
        let (text, head) = (fs::read_to_string("/proc/self/net/dev")?, format!("{}:", port(host)));
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&head));
        let numbers: Vec<u64> =
            line.context("the host has a port")?.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        ensure!(numbers.len() >= 9, "/proc/net/dev is short");
        // The port's view: what it receives the host has sent.
        Ok(Traffic { sent: numbers[0], received: numbers[8] })
    }

    /// Lets every host send at most so many megabits a second; none: as fast as it can.
    pub fn limit(&self, mbit: Option<u32>) -> Result<()> {
        for host in 0..self.hosts.len() {
            // A card without a limit has nothing that could be deleted.
            let _ = self.run(host, "tc", "qdisc del dev lan0 root");
            let Some(mbit) = mbit else { continue };
            self.run(host, "tc", "qdisc add dev lan0 root handle 1: htb default 10")?;
            self.run(host, "tc", &format!("class add dev lan0 parent 1: classid 1:10 htb rate {mbit}mbit"))?;
            self.run(
                host,
                "tc",
                &format!("qdisc add dev lan0 parent 1:10 handle 10: bfifo limit {QUEUE_BYTES}"),
            )?;
        }
        Ok(())
    }

    fn run(&self, host: usize, program: &str, words: &str) -> Result<()> {
        run(self.command(host, program).args(words.split_whitespace()))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            // Both fail only where it has ended and was waited for.
            let _ = host.holder.kill();
            let _ = host.holder.wait();
        }
    }
}

/// A host's address.
pub fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host as u8 + 1)
}

fn port(host: usize) -> String {
    format!("host{host}")
}

fn ip(words: &str) -> Result<()> {
    run(Command::new("ip").args(words.split_whitespace()))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
