//! A farm of several real servers: each on a host of its own, their records on a real etcd, joined
//! by `farm init`, `farm token` and `farm join` as an admin would.
//!
//! Servers are numbered from 0 and called `pvs01`, `pvs02`, ...; server 0 is 10.77.0.1. Each answers
//! DHCP from a pool of its own; [`Farm::machine`] says which of them a machine hears. Everything can
//! be broken: links cut or slowed ([`Farm::cut`], [`Farm::limit`]), servers and etcd's members
//! frozen, killed, started again, a store emptied. Read next: `tests/farm.rs`.

mod breakage;

use crate::etcd::Etcd;
use crate::machine::{Hardware, Machine};
use crate::mounted::Mounted;
use crate::needs::{self, Programs, Turn};
use crate::network::{Host, Segment};
use crate::seat::Seat;
use crate::server::{Place, Server};
use crate::wires::Wires;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

/// How long servers may take to start, to connect, to see what others did: on a machine that is
/// busy with compilers and emulators.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a farm begins with.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// How many servers.
    pub servers: usize,
    /// How many members etcd has: 1 or 3.
    pub etcd_members: usize,
    /// Sections that every server's configuration gets beside the harness's own, such as `[draft]`.
    pub config: &'static str,
    /// A server whose store lies on a file system of so many MiB ([`Farm::small_store`]).
    pub small_store: Option<(usize, u32)>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { servers: 3, etcd_members: 1, config: "", small_store: None }
    }
}

/// One server of the farm and its host.
#[derive(Debug)]
struct Member {
    server: Server,
    host: Host,
    name: String,
}

/// The running farm. Fields are dropped in order: servers, etcd, wires.
#[derive(Debug)]
pub struct Farm {
    members: Vec<Member>,
    /// What keeps the farm's records.
    pub etcd: Etcd,
    wires: Wires,
    segment: Segment,
    programs: Programs,
    layout: Layout,
    _turn: Turn,
}

impl Farm {
    /// Starts etcd and the servers, joins them, and waits until all are connected.
    pub fn new(layout: Layout) -> Result<Self> {
        let programs = needs::programs()?;
        let turn = Turn::take()?;
        let segment = Segment::new()?;
        let wires = Wires::new(&segment)?;
        let etcd = Etcd::start(&segment, layout.etcd_members)?;
        let mut farm = Self { members: Vec::new(), etcd, wires, segment, programs, layout, _turn: turn };
        for n in 0..layout.servers {
            farm.add(n)?;
        }
        farm.wait_until_connected()?;
        Ok(farm)
    }

    /// How many servers there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// A server's name in the farm.
    pub fn name(&self, n: usize) -> &str {
        &self.members[n].name
    }

    /// A server's host.
    pub fn host(&self, n: usize) -> &Host {
        &self.members[n].host
    }

    /// A server's store.
    pub fn store_path(&self, n: usize) -> PathBuf {
        self.members[n].server.store_path()
    }

    /// A server's state directory; the store lies in it.
    pub fn state_path(&self, n: usize) -> PathBuf {
        self.members[n].server.state_path()
    }

    /// The file system of server `n`'s store, where the layout gave it one of its own.
    pub fn small_store(&self, n: usize) -> Option<&Mounted> {
        self.members[n].server.mounted()
    }

    /// Server `n` for a thread of a workload.
    pub fn seat(&self, n: usize) -> Seat {
        let Member { server, host, name } = &self.members[n];
        Seat {
            name: name.clone(),
            network: host.namespace().network_file(),
            headwater: server.program().to_owned(),
            state: server.state_path(),
        }
    }

    // ---- the command line -------------------------------------------------------------------

    /// Runs the command line on server `n`, whatever comes of it.
    pub fn try_cli(&self, n: usize, words: &[&str]) -> Result<Output> {
        let Member { server, host, .. } = &self.members[n];
        server.try_cli(host, words)
    }

    /// Runs the command line on server `n`, and fails where it fails.
    pub fn cli(&self, n: usize, words: &[&str]) -> Result<String> {
        let Member { server, host, .. } = &self.members[n];
        server.cli(host, words)
    }

    /// Runs the command line on server `n`; what it prints as JSON.
    pub fn json(&self, n: usize, words: &[&str]) -> Result<Value> {
        let said = self.cli(n, &[words, &["--output", "json"]].concat())?;
        serde_json::from_str(&said)
            .with_context(|| format!("headwater {} is no JSON: {said}", words.join(" ")))
    }

    /// Runs the command line on server `n`, which must fail, and gives back what it said.
    pub fn refused(&self, n: usize, words: &[&str]) -> Result<String> {
        let output = self.try_cli(n, words)?;
        ensure!(
            !output.status.success(),
            "headwater {} was not refused on {}",
            words.join(" "),
            self.name(n)
        );
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    // ---- waiting ----------------------------------------------------------------------------

    /// Waits until `met` answers true; `what` and the servers' logs are in the failure.
    pub fn wait_for(&self, what: &str, limit: Duration, mut met: impl FnMut() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            let last = met();
            if matches!(last, Ok(true)) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("never came: {what} ({last:?})\n{}", self.logs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until every server that runs is connected to every other.
    pub fn wait_until_connected(&self) -> Result<()> {
        let running: Vec<usize> = (0..self.count()).filter(|n| self.runs(*n)).collect();
        for n in &running {
            let connected = || {
                let status = self.json(*n, &["replication", "status"])?;
                let peers = status[0]["peers"].as_array().map_or(0, Vec::len);
                Ok(peers + 1 == running.len())
            };
            self.wait_for(&format!("{} is connected", self.name(*n)), PATIENCE, connected)?;
        }
        Ok(())
    }

    /// Whether server `n`'s store has all of a version, as it has confirmed in the farm's records.
    pub fn is_complete(&self, n: usize, vdisk: &str, version: u32) -> Result<bool> {
        let shown = self.json(n, &["version", "show", vdisk, &version.to_string()])?;
        let copies = shown["copies"].as_array().cloned().unwrap_or_default();
        Ok(copies.iter().any(|server| server == self.name(n)))
    }

    /// Waits until every server that runs has all of a version.
    pub fn wait_until_complete(&self, vdisk: &str, version: u32, limit: Duration) -> Result<()> {
        for n in (0..self.count()).filter(|n| self.runs(*n)) {
            let what = format!("all of {vdisk} version {version} on {}", self.name(n));
            self.wait_for(&what, limit, || self.is_complete(n, vdisk, version))?;
        }
        Ok(())
    }

    /// The hash of a version's bytes as server `n` exports them (`sha256sum`).
    pub fn content(&self, n: usize, vdisk: &str, version: u32) -> Result<String> {
        let folder = tempfile::Builder::new().prefix("headwater-e2e-export-").tempdir_in("/var/tmp")?;
        let file = folder.path().join("export.raw").display().to_string();
        self.cli(n, &["vdisk", "export", vdisk, &file, "--version", &version.to_string()])?;
        let output = std::process::Command::new("sha256sum").arg(&file).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        said.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
    }

    /// The end of every server's log, for a failure's message.
    pub fn logs(&self) -> String {
        let logs = self.members.iter().map(|member| format!("{}: {}", member.name, member.server.log()));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// Adds the servers' logs to a failure.
    pub fn explained<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| self.logs())
    }

    // ---- machines ---------------------------------------------------------------------------

    /// Switches a machine on whose questions for an address only server `n` hears; so it boots from
    /// that server.
    pub fn machine(&self, hardware: &Hardware, n: usize) -> Result<Machine> {
        self.lead(hardware, n)?;
        Machine::start(&self.segment, hardware)
    }

    /// Lets only server `n` hear a machine's questions for an address, from its next boot on.
    pub fn lead(&self, hardware: &Hardware, n: usize) -> Result<()> {
        self.wires.lead(&self.segment, &hardware.mac, self.host(n))
    }

    // ---- making it --------------------------------------------------------------------------

    fn add(&mut self, n: usize) -> Result<()> {
        let host = self.segment.host(&format!("{}/24", address(n)))?;
        let config = config(n, &self.etcd.endpoints()) + self.layout.config;
        let place = match self.layout.small_store {
            Some((small, mib)) if small == n => Place::Mounted { mib },
            _ => Place::Disk,
        };
        let server = Server::prepare(&self.programs, place, &config)?;
        self.members.push(Member { server, host, name: format!("pvs{:02}", n + 1) });
        match n {
            0 => {
                self.start(0)?;
                self.cli(0, &["farm", "init", "--address", &mesh_address(0)]).map(drop)
            }
            _ => {
                self.join(n, 0)?;
                self.start(n)
            }
        }
    }

    fn join(&self, n: usize, by: usize) -> Result<()> {
        let granted = self.json(by, &["farm", "token"])?;
        let token = granted["token"].as_str().context("there is no token")?.to_owned();
        let config = self.members[n].server.config_path().display().to_string();
        self.cli(n, &["farm", "join", &token, "--address", &mesh_address(n), "--config", &config]).map(drop)
    }

    fn wait_until_ready(&self, n: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !self.try_cli(n, &["status"])?.status.success() {
            let server = &self.members[n].server;
            if Instant::now() > until || server.has_ended()? {
                bail!("{} did not start; {}", self.name(n), server.log());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

fn address(n: usize) -> String {
    format!("10.77.0.{}", n + 1)
}

fn mesh_address(n: usize) -> String {
    format!("{}:6910", address(n))
}

fn config(n: usize, endpoints: &[String]) -> String {
    let (address, first) = (address(n), 100 + 20 * n);
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!(
        "[server]\nname = \"pvs{number:02}\"\nstate_dir = \"{folder}/state\"\n\
         [http]\nlisten = \"{address}:6900\"\n[nbd]\nlisten = \"{address}:10809\"\n\
         [mesh]\nlisten = \"{address}:6910\"\n\
         [farm]\ndatabase = \"etcd\"\nendpoints = [{endpoints}]\n\
         [dhcp]\ninterface = \"lan0\"\nmode = \"full\"\npool_start = \"10.77.0.{first}\"\n\
         pool_end = \"10.77.0.{last}\"\nnetmask = \"255.255.255.0\"\n[boot]\nagent = \"{agent}\"\n",
        number = n + 1,
        folder = Server::FOLDER,
        agent = Server::AGENT,
        endpoints = endpoints.join(", "),
        last = first + 19,
    )
}
