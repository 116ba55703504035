//! `headwater lab --servers N`: a farm on one machine, without root and without KVM.
//!
//! A real etcd, servers that join each other over the loopback, an image that is imported on the
//! first and arrives on the others, machines that boot from different servers. Then one may be
//! killed. This file is how the farm comes to be; `story.rs` is what happens with it.

mod etcd;
mod member;
mod order;
mod ports;
mod standing;
mod story;

use super::args::Lab;
use super::child::Program;
use super::screen::Screen;
use super::server::{self, FarmSetup};
use super::shell::show_and_run;
use super::trouble::Trouble;
use super::{StopSignals, preflight, stopped};
use anyhow::{Context, Result};
use api::{GrantedJoinToken, NewJoinToken, paths};
use etcd::Etcd;
use member::Member;
use standing::Standing;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Ports of a server: HTTP, NBD, peers.
const PORTS: usize = 3;
/// How often replication is looked at: the eye follows.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The farm and what it was made of.
struct Farm<'a> {
    lab: &'a Lab,
    qemu: &'a Path,
    program: PathBuf,
    agent: PathBuf,
    dir: PathBuf,
    etcd: Etcd,
    members: Vec<Member>,
}

/// Why a story has no good end.
enum Ended {
    Failed,
    Stopped,
}

/// Runs a farm until its story is over, until it fails, or until Ctrl-C.
pub(super) async fn run(lab: &Lab, qemu: &Path, dir: PathBuf) -> Result<()> {
    let mut screen = Screen::new();
    let mut stop = StopSignals::catch().context("signals cannot be caught")?;
    let mut farm = Farm::prepare(lab, qemu, dir, &mut screen).await?;
    let mut up = false;
    let ended = tokio::select! {
        ended = farm.story(&mut screen, &mut up) => ended.map_err(|error| (error, Ended::Failed)),
        () = stop.next() => match up {
            true => Ok(()),
            false => Err((stopped(), Ended::Stopped)),
        },
    };
    let ended = ended.map_err(|(error, how)| match how {
        Ended::Failed => farm.explain(error),
        Ended::Stopped => error,
    });
    farm.end().await;
    ended
}

impl<'a> Farm<'a> {
    /// Starts etcd; no server yet.
    async fn prepare(lab: &'a Lab, qemu: &'a Path, dir: PathBuf, screen: &mut Screen) -> Result<Self> {
        let count = usize::from(lab.servers);
        let etcd = preflight::find_etcd()?;
        let ports = ports::free(2 + PORTS * count)?;
        let etcd = Etcd::start(&etcd, &dir, (ports[0], ports[1])).await?;
        screen.say(&format!("etcd       {} (log: {})", etcd.url, dir.join("etcd.log").display()));
        let setup = |ports: &[u16]| FarmSetup {
            http: ports[0],
            nbd: ports[1],
            mesh: ports[2],
            etcd: etcd.url.clone(),
        };
        let setups = ports[2..].chunks(PORTS).map(setup).enumerate();
        let members = setups.map(|(number, setup)| Member::new(number, &dir, setup)).collect();
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let agent = lab.agent.canonicalize()?;
        Ok(Self { lab, qemu, program, agent, dir, etcd, members })
    }

    /// Starts the servers and makes one farm of them, by the commands that users type.
    async fn form(&mut self, screen: &mut Screen) -> Result<()> {
        for member in &self.members {
            server::configure(&member.layout, &member.setup, &self.agent)?;
        }
        self.start(0, screen).await?;
        let address = self.members[0].mesh_address();
        let init = ["farm", "init", "--address", &address].map(OsString::from);
        self.command(0, &init, screen).await?;
        for number in 1..self.members.len() {
            self.join(number, screen).await?;
            self.start(number, screen).await?;
        }
        let others = self.members.len() - 1;
        self.until("all servers are connected", screen, |all| all.iter().all(|one| one.connected(others)))
            .await?;
        Ok(())
    }

    async fn start(&mut self, number: usize, screen: &mut Screen) -> Result<()> {
        let member = &mut self.members[number];
        member.start(&self.program).await?;
        let log = member.layout.server_log();
        screen.say(&format!("{:10} {}/ (log: {})", member.name, member.url(), log.display()));
        Ok(())
    }

    async fn join(&self, number: usize, screen: &mut Screen) -> Result<()> {
        let new = NewJoinToken::default();
        let granted: GrantedJoinToken = self.members[0].client()?.post(paths::FARM_TOKENS, &new).await?;
        let member = &self.members[number];
        // The token is a secret, and too long to read: it goes by the environment.
        let env = [("HEADWATER_JOIN_TOKEN", &*granted.token)];
        let mut args: Vec<OsString> = vec!["farm".into(), "join".into(), "--address".into()];
        args.extend([member.mesh_address().into(), "--config".into(), member.layout.config().into()]);
        args.extend(["--state-dir".into(), member.layout.state().into()]);
        screen.say("$ export HEADWATER_JOIN_TOKEN=$(headwater farm token ...)");
        show_and_run(Program { path: &self.program, args: &args, env: &env }, Stdio::null(), screen).await
    }

    /// Shows and runs a command against one of the servers.
    async fn command(&self, number: usize, args: &[OsString], screen: &mut Screen) -> Result<()> {
        let member = &self.members[number];
        let url = member.url();
        member.shell(&self.program, &url).run(args, screen).await
    }

    async fn standings(&self) -> Vec<Standing> {
        futures::future::join_all(self.members.iter().map(Member::standing)).await
    }

    /// Shows how replication stands until it is as wished; answers how long that took.
    async fn until(
        &self,
        what: &str,
        screen: &mut Screen,
        met: impl Fn(&[Standing]) -> bool,
    ) -> Result<Duration, Trouble> {
        let (begun, mut told) = (Instant::now(), None);
        loop {
            let all = self.standings().await;
            let gist = standing::gist(&all);
            if met(&all) {
                screen.settle(&standing::draw(&all));
                return Ok(begun.elapsed());
            }
            match screen.live() {
                true => screen.draw(&standing::draw(&all)),
                false if told.as_ref() != Some(&gist) => screen.say(&standing::draw(&all).join("\n")),
                false => {}
            }
            told = Some(gist);
            if self.lab.patience().is_some_and(|patience| begun.elapsed() > patience) {
                let seconds = begun.elapsed().as_secs();
                let what = format!("after {seconds} s it is still not so that {what}");
                return Err(Trouble::new(what, "give --timeout more seconds on a slow machine"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Adds what servers said that are up no more, and were not killed by the lab.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let logs = self.members.iter().map(|member| {
            let said = server::last_lines(&member.layout.server_log(), 5);
            format!("  {}:\n    {}\n", member.name, said.join("\n    "))
        });
        let logs: String = logs.collect();
        let what = format!("{error:#}");
        let (what, hint) = what.split_once("\nhint: ").unwrap_or((&what, "--keep DIR keeps all logs"));
        Trouble::new(format!("{what}\n  the last lines of the servers' logs:\n{logs}"), hint).into()
    }

    async fn end(mut self) {
        for member in &mut self.members {
            member.end().await;
        }
        self.etcd.end().await;
    }
}
