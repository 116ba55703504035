//! What breaks in a farm, and is mended: links, processes, disks.

use super::{Farm, Member, mesh_address};
use crate::child::Guarded;
use crate::network::Host;
use crate::wires;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Stdio;

impl Farm {
    /// Loses what server `from` sends to server `to`; the other way nothing changes.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        self.wires.cut(&self.segment, self.host(from), self.host(to))
    }

    /// Loses everything between two hosts: servers, or a server and a member of etcd.
    pub fn cut_both(&self, one: &Host, other: &Host) -> Result<()> {
        self.wires.cut(&self.segment, one, other)?;
        self.wires.cut(&self.segment, other, one)
    }

    /// Lets everything pass between two hosts again.
    pub fn mend_between(&self, one: &Host, other: &Host) -> Result<()> {
        self.wires.mend_one(&self.segment, one, other)?;
        self.wires.mend_one(&self.segment, other, one)
    }

    /// Mends all links.
    pub fn mend(&self) -> Result<()> {
        self.wires.mend(&self.segment)
    }

    /// Lets server `n` send at most `mbit` megabits a second to the other servers together;
    /// machines and etcd are not slowed.
    pub fn limit(&self, n: usize, mbit: f64) -> Result<()> {
        let others: Vec<&Host> =
            (0..self.count()).filter(|other| *other != n).map(|n| self.host(n)).collect();
        wires::limit(self.host(n), &others, mbit)
    }

    /// Lets server `n` send as fast as it can again.
    pub fn unlimit(&self, n: usize) -> Result<()> {
        wires::unlimit(self.host(n))
    }

    /// Whether server `n` runs (a frozen one does).
    pub fn runs(&self, n: usize) -> bool {
        self.members[n].server.has_ended().is_ok_and(|ended| !ended)
    }

    /// Ends server `n` as `kill -9` does.
    pub fn kill(&mut self, n: usize) -> Result<()> {
        self.members[n].server.kill()
    }

    /// Stops server `n` in its tracks (`SIGSTOP`).
    pub fn freeze(&self, n: usize) -> Result<()> {
        self.members[n].server.signal("STOP")
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self, n: usize) -> Result<()> {
        self.members[n].server.signal("CONT")
    }

    /// Starts server `n` again on what it left, and waits until it answers.
    pub fn start(&mut self, n: usize) -> Result<()> {
        let Member { server, host, .. } = &mut self.members[n];
        server.start_again(host)?;
        self.wait_until_ready(n)
    }

    /// Verifies the store of server `n`, which must not run; what is wrong is the failure.
    pub fn check_store(&self, n: usize) -> Result<String> {
        let Member { server, host, name } = &self.members[n];
        let store = self.state_path(n).join("store").display().to_string();
        let output = server.offline(host, &["store", "check", &store])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the store of {name} is not clean:\n{said}\n{}", error.trim());
        Ok(said)
    }

    /// Empties the store of server `n`, which must not run; its identity stays.
    pub fn empty_store(&mut self, n: usize) -> Result<()> {
        emptied(&self.store_path(n))
    }

    /// Loses everything of server `n`, which must not run: identity, state, store. Another server
    /// removes it from the farm; it joins again under its name and is not started yet.
    pub fn rejoin(&mut self, n: usize, by: usize) -> Result<()> {
        emptied(&self.state_path(n))?;
        self.cli(by, &["server", "remove", self.name(n)])?;
        std::fs::create_dir_all(self.store_path(n))?;
        self.join(n, by)
    }

    /// Starts a program in the place of server `n`, which must not run: on its host, where it sees its
    /// store. Its arguments are the state directory, where it listens for peers, and etcd's endpoints.
    pub fn impostor(&self, n: usize, program: &Path) -> Result<Guarded> {
        let Member { server, host, .. } = &self.members[n];
        let mut command = server.in_its_place(host, program);
        command.arg(server.state_path()).arg(mesh_address(n)).args(self.etcd.endpoints());
        command.stdin(Stdio::null());
        Guarded::start(&mut command).context("the impostor")
    }
}

/// Deletes what is in a directory, and keeps the directory.
fn emptied(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder)?;
    Ok(std::fs::create_dir(folder)?)
}
