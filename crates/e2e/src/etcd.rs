//! A real etcd whose members are hosts of a segment.

use crate::child::Guarded;
use crate::network::{Host, Segment};
use anyhow::{Context, Result, bail};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the members may take to serve, on a machine that is busy with emulators.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The members of one cluster.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    folder: TempDir,
}

#[derive(Debug)]
struct Member {
    process: Option<Guarded>,
    host: Host,
}

impl Etcd {
    /// Plugs `count` members into the segment, from 10.77.0.11 on, and waits until they serve.
    pub fn start(segment: &Segment, count: usize) -> Result<Self> {
        let hosts: Result<Vec<_>> =
            (0..count).map(|n| segment.host(&format!("10.77.0.{}/24", 11 + n))).collect();
        let members = hosts?.into_iter().map(|host| Member { process: None, host }).collect();
        let folder = tempfile::Builder::new().prefix("headwater-e2e-etcd-").tempdir_in("/var/tmp")?;
        let mut etcd = Self { members, folder };
        etcd.start_again()?;
        Ok(etcd)
    }

    /// Where the servers reach it.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://{}:2379", member.host.address)).collect()
    }

    /// How many members there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// A member's host.
    pub fn host(&self, n: usize) -> &Host {
        &self.members[n].host
    }

    /// Ends all members as a power cut does; what they have written stays.
    pub fn kill(&mut self) -> Result<()> {
        (0..self.count()).try_for_each(|n| self.kill_member(n))
    }

    /// Ends one member as a power cut does.
    pub fn kill_member(&mut self, n: usize) -> Result<()> {
        if let Some(mut process) = self.members[n].process.take() {
            process.child().kill()?;
            process.child().wait()?;
        }
        Ok(())
    }

    /// Starts one member that was killed.
    pub fn start_member(&mut self, n: usize) -> Result<()> {
        let process = self.member(n)?;
        self.members[n].process = Some(process);
        Ok(())
    }

    /// Starts all members that do not run, and waits until they serve.
    pub fn start_again(&mut self) -> Result<()> {
        for n in 0..self.count() {
            if self.members[n].process.is_none() {
                self.start_member(n)?;
            }
        }
        self.wait()
    }

    /// Sends a member a signal, such as `STOP` and `CONT`.
    pub fn signal(&self, n: usize, signal: &str) -> Result<()> {
        self.members[n].process.as_ref().context("the member does not run")?.signal(signal)
    }

    fn member(&self, n: usize) -> Result<Guarded> {
        let url = |n: usize, port: u16| format!("http://{}:{port}", self.members[n].host.address);
        let name = format!("m{n}");
        let cluster: Vec<String> = (0..self.count()).map(|n| format!("m{n}={}", url(n, 2380))).collect();
        let log = self.folder.path().join(format!("{name}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let mut command = self.members[n].host.command("etcd");
        // Nothing from the outside: etcd reads its options from the environment too.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(["--name", &name, "--initial-cluster", &cluster.join(",")]);
        command.arg("--data-dir").arg(self.folder.path().join(&name));
        command.args(["--listen-client-urls", &url(n, 2379), "--advertise-client-urls", &url(n, 2379)]);
        command.args(["--listen-peer-urls", &url(n, 2380), "--initial-advertise-peer-urls", &url(n, 2380)]);
        Guarded::start(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
    }

    fn wait(&self) -> Result<()> {
        let until = Instant::now() + START_LIMIT;
        let Some(first) = self.members.first() else { bail!("a cluster has members") };
        loop {
            let mut ask = first.host.command("curl");
            ask.args(["--silent", "--fail", "--max-time", "2", &format!("{}/health", self.endpoints()[0])]);
            let answer = ask.output().context("could not start curl")?;
            if String::from_utf8_lossy(&answer.stdout).contains("\"true\"") {
                return Ok(());
            }
            if Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.path().join("m0.log")).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                bail!("etcd does not serve:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
