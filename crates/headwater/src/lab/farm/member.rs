//! One server of the lab's farm, which may be killed and started again.

use super::super::server::{FarmSetup, Layout, Server, Setup};
use super::super::shell::Shell;
use super::super::trouble::Trouble;
use super::standing::Standing;
use crate::client::Client;
use anyhow::{Context, Result};
use api::paths;
use std::path::{Path, PathBuf};

/// A server of the farm.
pub(super) struct Member {
    /// `pvs01`, `pvs02`, ...
    pub(super) name: String,
    /// Where its files are.
    pub(super) layout: Layout,
    /// Its configuration.
    pub(super) setup: Setup,
    ports: FarmSetup,
    /// None while it is down.
    server: Option<Server>,
}

impl Member {
    /// The server with this number, from 0, whose folder is below `dir`; it is not started.
    pub(super) fn new(number: usize, dir: &Path, ports: FarmSetup) -> Self {
        let name = format!("pvs{:02}", number + 1);
        let setup = Setup { name: name.clone(), farm: Some(ports.clone()) };
        Self { layout: Layout::new(dir.join(&name)), name, setup, ports, server: None }
    }

    /// Starts it, with the configuration that it has.
    pub(super) async fn start(&mut self, program: &Path) -> Result<(), Trouble> {
        self.server = Some(Server::run(program, &self.layout).await?);
        Ok(())
    }

    /// Ends it as a power cut does; answers whether it was up.
    pub(super) async fn kill(&mut self) -> Result<bool> {
        let Some(server) = self.server.take() else { return Ok(false) };
        server.kill().await.with_context(|| format!("{} cannot be killed", self.name))?;
        Ok(true)
    }

    /// Stops it in order, if it is up.
    pub(super) async fn end(&mut self) {
        if let Some(server) = self.server.take() {
            server.end().await;
        }
    }

    /// Waits until it ends by itself; for ever while it is down.
    pub(super) async fn ended(&mut self) {
        match &mut self.server {
            // It is over whatever is known of its exit.
            Some(server) => drop(server.ended().await),
            None => std::future::pending().await,
        }
        self.server = None;
    }

    /// Whether it runs.
    pub(super) fn is_up(&self) -> bool {
        self.server.is_some()
    }

    /// Its process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.server.as_ref()?.pid()
    }

    /// Where its API and status page are.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http)
    }

    /// Where its peers reach it.
    pub(super) fn mesh_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.mesh)
    }

    /// The port that machines boot from.
    pub(super) fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// A client with its admin's token.
    pub(super) fn client(&self) -> Result<Client> {
        let mut target = self.layout.target();
        target.url = Some(self.url());
        Client::new(&target)
    }

    /// Runs commands against it, as its admin.
    pub(super) fn shell<'a>(&self, program: &'a Path, url: &'a str) -> Shell<'a> {
        Shell { program, url, token: self.token() }
    }

    /// How replication to it stands.
    pub(super) async fn standing(&self) -> Standing {
        let says = match self.client() {
            Ok(client) if self.is_up() => client.get(paths::REPLICATION).await.ok(),
            _ => None,
        };
        Standing { server: self.name.clone(), says }
    }

    fn token(&self) -> PathBuf {
        self.layout.token()
    }
}
