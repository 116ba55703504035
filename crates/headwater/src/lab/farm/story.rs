//! What happens with the farm: an import that arrives, machines, and a server that dies.

use super::super::args;
use super::super::machine::MachineSpec;
use super::super::runner::{Plan, Runner};
use super::super::screen::Screen;
use super::super::sessions::Sessions;
use super::super::verdict::Goal;
use super::super::{import, seconds};
use super::order::{self, Order};
use super::{Farm, standing};
use anyhow::{Context, Result};
use model::Name;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The bytes of the second vDisk, which is imported while a server is down. By eye: it travels in
/// about a second.
const NEWS_BYTES: usize = 32 << 20;
/// The second vDisk.
const NEWS: &str = "news";

impl Farm<'_> {
    /// All of it; `up` becomes true when there is nothing left but to look.
    pub(super) async fn story(&mut self, screen: &mut Screen, up: &mut bool) -> Result<()> {
        self.form(screen).await?;
        let vdisk = args::vdisk_name(&self.lab.image);
        let url = self.members[0].url();
        import(self.lab, &self.members[0].shell(&self.program, &url), &vdisk, screen).await?;
        let what = "every server has the vDisk";
        let arrived = self.until(what, screen, |all| all.iter().all(|one| one.has(1))).await?;
        screen.say(&format!("\n{vdisk} was on every server {:.1} s after its import", arrived.as_secs_f64()));
        match self.lab.once {
            true => self.lose_one(&vdisk, arrived, screen).await,
            false => self.play(screen, up).await,
        }
    }

    /// A server dies; the others boot a machine and get a new vDisk; when it is back it gets it too.
    async fn lose_one(&mut self, vdisk: &Name, arrived: Duration, screen: &mut Screen) -> Result<()> {
        let last = self.members.len() - 1;
        let before = self.boot(0, 1, screen).await?;
        self.kill(0, screen).await?;
        let news = self.write_news().context("an image cannot be written")?;
        let import: [OsString; 4] = ["vdisk".into(), "import".into(), NEWS.into(), news.into()];
        self.command(1, &import, screen).await?;
        let what = "the servers that are up have the new vDisk";
        self.until(what, screen, |all| all[1..].iter().all(|one| one.has(2))).await?;
        let after = self.boot(1, last, screen).await?;
        self.start(0, screen).await?;
        let what = "the server that was killed has the new vDisk";
        let caught_up = self.until(what, screen, |all| all.iter().all(|one| one.has(2))).await?;
        let booted = |number: usize, logins: &[Duration]| {
            format!("a machine booted from {}: login after {}; ", self.members[number].name, seconds(logins))
        };
        let before = before.map(|logins| booted(1, &logins)).unwrap_or_default();
        let after = after.map(|logins| booted(last, &logins)).unwrap_or_default();
        let first = &self.members[0].name;
        screen.say(&format!(
            "lab: {vdisk} was imported on {first}, and {:.1} s later on all {} servers; {before}{first} was \
             killed; {after}{first} came back and had what was imported meanwhile after {:.1} s",
            arrived.as_secs_f64(),
            self.members.len(),
            caught_up.as_secs_f64()
        ));
        Ok(())
    }

    /// Boots one machine from a server and switches it off again; how long it took to its login. None
    /// where there are no machines.
    async fn boot(
        &self,
        machine: usize,
        server: usize,
        screen: &mut Screen,
    ) -> Result<Option<Vec<Duration>>> {
        if self.lab.machines == 0 {
            return Ok(None);
        }
        screen.say(&format!("\na machine without a disk boots from {}:", self.members[server].name));
        let mut runner = Runner::start(self.plan(vec![self.machine(machine, server)])?).await?;
        runner.until_done(screen).await?;
        let logins = runner.logins().into_iter().next().unwrap_or_default();
        runner.end().await;
        Ok(Some(logins))
    }

    /// Boots the machines, then does what is typed.
    async fn play(&mut self, screen: &mut Screen, up: &mut bool) -> Result<()> {
        let count = self.members.len();
        // The importer last: machines show best that the others have it.
        let machines = (0..usize::from(self.lab.machines)).map(|n| self.machine(n, (n + 1) % count));
        let mut runner = Runner::start(self.plan(machines.collect())?).await?;
        runner.until_done(screen).await?;
        *up = true;
        screen.say(&self.what_to_try());
        let mut lines = order::lines();
        let mut typing = true;
        loop {
            tokio::select! {
                stepped = runner.step(screen) => drop(stepped?),
                line = lines.recv(), if typing => match line {
                    Some(line) => self.obey(&line, screen).await?,
                    None => typing = false,
                },
                number = any_ended(&mut self.members) => {
                    let name = &self.members[number].name;
                    screen.say(&format!("{name} has ended; type `start {}` to start it again", number + 1));
                }
            }
        }
    }

    async fn obey(&mut self, line: &str, screen: &mut Screen) -> Result<()> {
        match order::parse(line, self.members.len()) {
            Some(Order::Kill(number)) => self.kill(number, screen).await,
            Some(Order::Start(number)) if self.members[number].is_up() => {
                screen.say(&format!("{} runs already", self.members[number].name));
                Ok(())
            }
            Some(Order::Start(number)) => self.start(number, screen).await,
            Some(Order::Show) => {
                screen.say(&standing::draw(&self.standings().await).join("\n"));
                Ok(())
            }
            None => {
                screen.say("type `kill N`, `start N` or `status`; Ctrl-C ends the lab");
                Ok(())
            }
        }
    }

    async fn kill(&mut self, number: usize, screen: &mut Screen) -> Result<()> {
        let member = &mut self.members[number];
        let pid = member.pid();
        match (member.kill().await?, pid) {
            (true, Some(pid)) => screen.say(&format!("\n$ kill -9 {pid}    # {}", member.name)),
            _ => screen.say(&format!("{} does not run", member.name)),
        }
        Ok(())
    }

    fn machine(&self, index: usize, server: usize) -> MachineSpec {
        let member = &self.members[server];
        MachineSpec {
            index,
            memory_mib: self.lab.memory,
            http_port: member.http_port(),
            dir: self.dir.clone(),
            server_log: member.layout.server_log(),
        }
    }

    fn plan(&self, machines: Vec<MachineSpec>) -> Result<Plan<'_>> {
        let clients = self.members.iter().map(super::Member::client).collect::<Result<_>>()?;
        Ok(Plan {
            machines,
            goal: Goal::Login,
            patience: self.lab.patience(),
            qemu: self.qemu,
            sessions: Sessions::new(clients),
        })
    }

    /// An image that nothing of was seen before.
    fn write_news(&self) -> std::io::Result<PathBuf> {
        let path = self.dir.join("news.raw");
        let mut bytes = vec![0; NEWS_BYTES];
        blake3::Hasher::new().update(NEWS.as_bytes()).finalize_xof().fill(&mut bytes);
        std::fs::File::create(&path)?.write_all(&bytes)?;
        Ok(path)
    }

    fn what_to_try(&self) -> String {
        let servers = self.members.iter().map(|member| {
            let (name, url, state) = (&member.name, member.url(), member.layout.state());
            let pid = member.pid().unwrap_or_default();
            format!(
                "{name:10} {url}/   kill -9 {pid}\n           \
                 export HEADWATER_URL={url} HEADWATER_STATE_DIR={}\n",
                state.display()
            )
        });
        let servers: String = servers.collect();
        let program = self.program.display();
        format!(
            "\nEverything is up.\n\n{servers}\n\
             try        {program} farm status            # with the two variables of any server\n           \
             {program} replication status\n           \
             {program} vdisk import other FILE\n           \
             kill -9 of one server, as above, or type: kill 2\n           \
             status, and the same commands on the others; then type: start 2\n\n\
             Ctrl-C ends the machines, the servers and etcd."
        )
    }
}

/// Waits until one of the servers ends by itself, and answers which.
async fn any_ended(members: &mut [super::Member]) -> usize {
    let ends = members.iter_mut().map(|member| Box::pin(member.ended()));
    futures::future::select_all(ends).await.1
}
