//! A real etcd for tests: member processes on loopback, ended with their handle.
//!
//! Not for production: ports are chosen when it starts, and elections are fast.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a cluster may take to begin to serve on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The member processes of one cluster.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Process>,
    address: Ipv4Addr,
    dir: PathBuf,
    tls: Option<ClusterTls>,
}

/// The PEM files that members show to clients, and what clients' certificates must be signed by.
#[derive(Clone, Debug)]
pub struct ClusterTls {
    /// The authority of both.
    pub ca: PathBuf,
    /// The members' certificate, for 127.0.0.1.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority's list of clients' certificates that are good no more, where it has one.
    pub revoked: Option<PathBuf>,
}

#[derive(Debug)]
struct Process {
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl EtcdCluster {
    /// Starts `count` members on loopback that keep their state and logs in `dir`.
    ///
    /// # Panics
    /// Where etcd is not installed or does not start: this is for tests.
    pub fn start(dir: &Path, count: usize) -> Self {
        Self::start_with(Ipv4Addr::LOCALHOST, dir, count, None)
    }

    /// The same on another address of this machine.
    ///
    /// # Panics
    /// As [`EtcdCluster::start`] does.
    pub fn start_at(address: Ipv4Addr, dir: &Path, count: usize) -> Self {
        Self::start_with(address, dir, count, None)
    }

    /// [`EtcdCluster::start`] with members that speak TLS to clients and ask for their certificates.
    ///
    /// # Panics
    /// As [`EtcdCluster::start`] does.
    pub fn start_tls(dir: &Path, count: usize, tls: ClusterTls) -> Self {
        Self::start_with(Ipv4Addr::LOCALHOST, dir, count, Some(tls))
    }

    fn start_with(address: Ipv4Addr, dir: &Path, count: usize, tls: Option<ClusterTls>) -> Self {
        let ports = free_ports(2 * count);
        let members =
            ports.chunks(2).map(|pair| Process { client_port: pair[0], peer_port: pair[1], child: None });
        let mut cluster = Self { members: members.collect(), address, dir: dir.to_owned(), tls };
        for n in 0..count {
            cluster.start_member(n);
        }
        cluster.wait_for_ports();
        cluster
    }

    /// The members' addresses.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| self.client_url(member)).collect()
    }

    fn url(&self, port: u16) -> String {
        format!("http://{}:{port}", self.address)
    }

    /// The ids of the members' processes.
    pub fn ids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| Some(member.child.as_ref()?.id())).collect()
    }

    /// Starts a member that was killed.
    pub fn start_member(&mut self, n: usize) {
        let log = File::create(self.dir.join(format!("m{n}.log"))).expect("a log can be written");
        let mut command = self.command(n);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let child = command.spawn();
        self.members[n].child =
            Some(child.expect("etcd starts; install it: cargo xtask setup (etcd-server)"));
    }

    /// Ends a member as a power cut does.
    pub fn kill_member(&mut self, n: usize) {
        if let Some(mut child) = self.members[n].child.take() {
            end(&mut child).expect("a child can be killed");
        }
    }

    /// Ends all members as a power cut does.
    pub fn kill(&mut self) {
        (0..self.members.len()).for_each(|n| self.kill_member(n));
    }

    /// Starts all members again and waits until they listen.
    pub fn restart(&mut self) {
        (0..self.members.len()).for_each(|n| self.start_member(n));
        self.wait_for_ports();
    }

    fn client_url(&self, member: &Process) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.address, member.client_port)
    }

    fn command(&self, n: usize) -> Command {
        let member = &self.members[n];
        let (client, peer) = (self.client_url(member), self.url(member.peer_port));
        let cluster: Vec<String> = (self.members.iter().enumerate())
            .map(|(n, member)| format!("m{n}={}", self.url(member.peer_port)))
            .collect();
        let mut command = Command::new("etcd");
        // Nothing from the outside: etcd reads its options from the environment too.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(["--name", &format!("m{n}"), "--initial-cluster", &cluster.join(",")]);
        command.arg("--data-dir").arg(self.dir.join(format!("m{n}")));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        if let Some(tls) = &self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.ca);
            command.arg("--cert-file").arg(&tls.cert).arg("--key-file").arg(&tls.key);
            command.args(
                tls.revoked.iter().flat_map(|list| [OsStr::new("--client-crl-file"), list.as_os_str()]),
            );
        }
        command.args(["--heartbeat-interval", "100", "--election-timeout", "1000"]);
        command
    }

    fn wait_for_ports(&self) {
        let begun = Instant::now();
        for member in &self.members {
            while TcpStream::connect((self.address, member.client_port)).is_err() {
                assert!(
                    begun.elapsed() < PATIENCE,
                    "etcd does not listen: see its log in {}",
                    self.dir.display()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            // It may have ended by itself.
            let _ = end(child);
        }
    }
}

fn end(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

/// Ports that nobody had a moment ago: etcd cannot be told to take any.
fn free_ports(count: usize) -> Vec<u16> {
    let bind = |_| TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let listeners: Vec<TcpListener> = (0..count).map(bind).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}
