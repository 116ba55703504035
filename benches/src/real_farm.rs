//! Several real servers on one etcd, each in a directory of its own, joined as an admin joins them.
//!
//! They reach each other over the loopback interface, without a limit or a delay, or are hosts of a
//! network of their own ([`crate::lan`]).

use crate::lan::{self, Lan};
use crate::real_server::{Place, Server};
use anyhow::{Context, Result, ensure};
use farm_db::etcd_child::EtcdCluster;
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long servers may take to find each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running farm. Its servers end before its etcd does.
#[derive(Debug)]
pub struct Farm {
    servers: Vec<Server>,
    etcd: EtcdCluster,
}

impl Farm {
    /// Starts `pvs01` to `pvsNN` in `directory`, which is made anew, and waits until each is
    /// connected with all others.
    pub fn start(program: &Path, directory: &Path, count: usize) -> Result<Self> {
        Self::start_at(&vec![Place::default(); count], Ipv4Addr::LOCALHOST, "", program, directory)
    }

    /// The same on the first `count` hosts of a network, with etcd where its bridge is; `more` are
    /// sections of every server's configuration.
    pub fn start_on(lan: &Lan, count: usize, more: &str, program: &Path, directory: &Path) -> Result<Self> {
        let place = |host| Place { address: lan::address(host), prefix: lan.prefix(host) };
        let places: Vec<Place> = (0..count).map(place).collect();
        Self::start_at(&places, lan::HUB, more, program, directory)
    }

    fn start_at(
        places: &[Place],
        etcd: Ipv4Addr,
        more: &str,
        program: &Path,
        directory: &Path,
    ) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        let etcd = EtcdCluster::start_at(etcd, directory, 1);
        let mut farm = Self { servers: Vec::new(), etcd };
        for place in places {
            farm.add(place, more, program, directory)?;
        }
        farm.wait_for_links()?;
        Ok(farm)
    }

    /// A server by its place, from 0.
    pub fn server(&self, place: usize) -> &Server {
        &self.servers[place]
    }

    /// All of them.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The processes of its etcd.
    pub fn etcd_ids(&self) -> Vec<u32> {
        self.etcd.ids()
    }

    fn add(&mut self, place: &Place, more: &str, program: &Path, directory: &Path) -> Result<()> {
        // Free here at this moment; the server binds it a moment later.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mesh = format!("{}:{port}", place.address);
        let endpoints = self.etcd.endpoints().join("', '");
        let farm = format!("[farm]\ndatabase = 'etcd'\nendpoints = ['{endpoints}']\n");
        let more = format!("[mesh]\nlisten = '{mesh}'\n{farm}{more}");
        let name = format!("pvs{:02}", self.servers.len() + 1);
        let server = Server::at(place, &name, &more, program, &directory.join(&name))?;
        match self.servers.first() {
            None => {
                server.start()?;
                server.run(&["farm", "init", "--address", &mesh])?;
            }
            Some(first) => {
                let token = first.json(&["farm", "token"])?;
                let token = token["token"].as_str().context("a token is text")?;
                let config = server.config();
                let config = config.to_str().context("the directory's name is text")?;
                server.run(&["farm", "join", token, "--address", &mesh, "--config", config])?;
                server.start()?;
            }
        }
        self.servers.push(server);
        Ok(())
    }

    fn wait_for_links(&self) -> Result<()> {
        let begun = Instant::now();
        for server in &self.servers {
            loop {
                let status = server.json(&["replication", "status"])?;
                let peers = status[0]["peers"].as_array().map(Vec::len).unwrap_or_default();
                if peers + 1 == self.servers.len() {
                    break;
                }
                ensure!(begun.elapsed() < PATIENCE, "the servers do not find each other: {}", json!(status));
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}
