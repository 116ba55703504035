//! A real etcd for tests: member processes on loopback, ended with their handle.
//!
//! Not for production: ports are chosen when it starts, and elections are fast.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a cluster may take to begin to serve on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The member processes of one cluster.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Process>,
    dir: PathBuf,
}

#[derive(Debug)]
struct Process {
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl EtcdCluster {
    /// Starts `count` members that keep their state and logs in `dir`
    ///
    ///
    /// # Panics
    /// Where etcd is not installed or does not start: this is for tests.
    pub fn start(dir: &Path, count: usize) -> Self {
        let ports = free_ports(2 * count);
        let members =
            ports.chunks(2).map(|pair| Process { client_port: pair[0], peer_port: pair[1], child: None });
        let mut cluster = Self { members: members.collect(), dir: dir.to_owned() };
        for n in 0..count {
            cluster.start_member(n);
        }
        cluster.wait_for_ports();
        cluster
    }

    /// The members' addresses.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://127.0.0.1:{}", member.client_port)).collect()
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

    fn command(&self, n: usize) -> Command {
        let member = &self.members[n];
        let (client, peer) = (
            format!("http://127.0.0.1:{}", member.client_port),
            format!("http://127.0.0.1:{}", member.peer_port),
        );
        let cluster: Vec<String> = (self.members.iter().enumerate())
            .map(|(n, member)| format!("m{n}=http://127.0.0.1:{}", member.peer_port))
            .collect();
        let mut command = Command::new("etcd");
        // Nothing from the outside: etcd reads its options from the environment too.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(["--name", &format!("m{n}"), "--initial-cluster", &cluster.join(",")]);
        command.arg("--data-dir").arg(self.dir.join(format!("m{n}")));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--heartbeat-interval", "100", "--election-timeout", "1000"]);
        command
    }

    fn wait_for_ports(&self) {
        let begun = Instant::now();
        for member in &self.members {
            while TcpStream::connect(("127.0.0.1", member.client_port)).is_err() {
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
