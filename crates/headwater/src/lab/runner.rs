//! Runs the machines: starts them, listens to them and to the server, carries out what
//! `floor.rs` decides.

use super::floor::{Effect, Event, Floor};
use super::machine::{Machine, MachineSpec, Voices};
use super::qmp::Notices;
use super::screen::Screen;
use super::server::last_lines;
use super::sessions::Sessions;
use super::table;
use super::trouble::Trouble;
use super::verdict::Goal;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdout;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How often the table is redrawn and the server is asked; faster than people notice.
const TICK: Duration = Duration::from_millis(250);
/// Events on their way; a console that floods waits.
const QUEUE: usize = 64;
/// The most of a console that is kept in its log: a day of a chatty machine.
const MAX_SERIAL_LOG: usize = 16 << 20;
/// Bytes read from a console at a time.
const CONSOLE_PIECE: usize = 4096;
/// How many lines of a console and of the server's log a failure shows.
const SHOWN_LINES: usize = 25;

/// What to run.
pub(super) struct Plan<'a> {
    /// The machines.
    pub(super) machines: Vec<MachineSpec>,
    /// What they shall reach.
    pub(super) goal: Goal,
    /// How long that may take.
    pub(super) patience: Option<Duration>,
    /// The emulator.
    pub(super) qemu: &'a Path,
    /// The servers' sessions.
    pub(super) sessions: Sessions,
}

/// Machines that run.
pub(super) struct Runner {
    machines: Vec<Machine>,
    floor: Floor,
    events: Receiver<Event>,
    server_logs: Vec<PathBuf>,
    deadline: Option<Instant>,
}

impl Runner {
    /// Switches all machines on.
    pub(super) async fn start(plan: Plan<'_>) -> Result<Self, Trouble> {
        let (sender, events) = channel(QUEUE);
        let (mut machines, mut switched_on) = (Vec::new(), Vec::new());
        for (number, spec) in plan.machines.iter().enumerate() {
            let power_on = SystemTime::now();
            let (machine, voices) = Machine::start(spec, plan.qemu).await?;
            machines.push(machine);
            switched_on.push((spec.mac(), power_on));
            listen(number, spec, voices, &sender).await?;
        }
        tokio::spawn(watch_sessions(plan.sessions, sender.clone()));
        tokio::spawn(tick(sender));
        let floor = Floor::new(plan.goal, &switched_on);
        let deadline = plan.patience.map(|patience| Instant::now() + patience);
        let server_logs = plan.machines.into_iter().map(|spec| spec.server_log).collect();
        Ok(Self { machines, floor, events, server_logs, deadline })
    }

    /// Runs until all machines have reached the goal.
    pub(super) async fn until_done(&mut self, screen: &mut Screen) -> Result<(), Trouble> {
        loop {
            if self.step(screen).await? {
                self.deadline = None;
                return Ok(());
            }
            if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(self.too_late());
            }
        }
    }

    /// Keeps machines running that have reached the goal, until dropped.
    pub(super) async fn keep(&mut self, screen: &mut Screen) -> Result<(), Trouble> {
        loop {
            self.step(screen).await?;
        }
    }

    /// Seconds to the login prompt, a list of all machines for each boot.
    pub(super) fn logins(&self) -> Vec<Vec<Duration>> {
        self.floor.logins()
    }

    /// Switches all machines off.
    pub(super) async fn end(self) {
        for machine in self.machines {
            machine.end().await;
        }
    }

    /// Waits for one event and carries out what follows; answers whether all are done. Dropping the
    /// future may lose an order to a machine, nothing else.
    pub(super) async fn step(&mut self, screen: &mut Screen) -> Result<bool, Trouble> {
        let event = self.events.recv().await.expect("the ticker never ends");
        let redraw = matches!(event, Event::Tick);
        let mut done = false;
        for effect in self.floor.apply(event, SystemTime::now()) {
            done |= effect == Effect::AllDone;
            self.carry_out(effect, screen).await?;
        }
        if redraw && self.floor.booting() {
            screen.draw(&self.table(screen));
        }
        Ok(done)
    }

    async fn carry_out(&mut self, effect: Effect, screen: &mut Screen) -> Result<(), Trouble> {
        match effect {
            Effect::Step(line) if !screen.live() => screen.say(&line),
            Effect::Step(_) | Effect::AllDone => {}
            Effect::Say(line) => screen.say(&line),
            Effect::BootEnded => screen.settle(&self.table(screen)),
            Effect::Tell(machine, command) => self.tell(machine, command).await?,
            Effect::Failed { machine, why } => {
                screen.settle(&self.table(screen));
                return Err(self.failed(machine, &why));
            }
        }
        Ok(())
    }

    async fn tell(&mut self, machine: usize, command: super::qmp::Command) -> Result<(), Trouble> {
        let told = self.machines[machine].commands.tell(command).await;
        told.map_err(|error| self.failed(machine, &format!("QEMU cannot be told to reboot it: {error}")))
    }

    fn table(&self, screen: &Screen) -> Vec<String> {
        table::draw(&self.floor.columns(SystemTime::now()), screen.canvas())
    }

    fn too_late(&self) -> Trouble {
        let (machine, step) = self.floor.laggard().unwrap_or((0, "its end"));
        self.failed(machine, &format!("the time is up, and it still waits for: {step}"))
    }

    fn failed(&self, machine: usize, why: &str) -> Trouble {
        let indent =
            |lines: Vec<String>| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
        let console = self.floor.last_lines(machine);
        let console = indent(console[console.len().saturating_sub(SHOWN_LINES)..].to_vec());
        let log = indent(last_lines(&self.server_logs[machine], SHOWN_LINES));
        let what = format!(
            "{}: {why}\n  the last lines of its console:\n{console}  the last lines of the server's log:\n{log}",
            self.floor.label(machine)
        );
        Trouble::new(what.trim_end(), "--keep DIR keeps all logs, the server's state and its configuration")
    }
}

async fn listen(
    number: usize,
    spec: &MachineSpec,
    voices: Voices,
    sender: &Sender<Event>,
) -> Result<(), Trouble> {
    let path = spec.serial_log();
    let log = File::create(&path).await.map_err(|error| {
        Trouble::new(
            format!("{} cannot be written: {error}", path.display()),
            "free some space there, or set TMPDIR to another folder",
        )
    })?;
    tokio::spawn(read_console(number, voices.serial, log, sender.clone()));
    tokio::spawn(read_notices(number, voices.notices, sender.clone()));
    Ok(())
}

/// Passes a console on and logs it; ends with QEMU or with the lab.
async fn read_console(machine: usize, mut serial: ChildStdout, mut log: File, sender: Sender<Event>) {
    let mut piece = vec![0; CONSOLE_PIECE];
    let mut logged = 0;
    while let Ok(len @ 1..) = serial.read(&mut piece).await {
        let bytes = piece[..len].to_vec();
        if logged < MAX_SERIAL_LOG {
            logged += len;
            // A full disk costs the log, not the lab.
            let _ = write_through(&mut log, &bytes).await;
        }
        if sender.send(Event::Console { machine, bytes }).await.is_err() {
            return;
        }
    }
    // The receiver is gone only when the lab is.
    let _ = sender.send(Event::Gone { machine }).await;
}

async fn write_through(log: &mut File, bytes: &[u8]) -> io::Result<()> {
    log.write_all(bytes).await?;
    log.flush().await
}

/// Passes QEMU's notices on; that QEMU is gone is the console's to say.
async fn read_notices(machine: usize, mut notices: Notices, sender: Sender<Event>) {
    while let Ok(Some(notice)) = notices.next().await {
        if sender.send(Event::Notice { machine, notice }).await.is_err() {
            return;
        }
    }
}

/// Asks the server again and again; a question that fails is asked again.
async fn watch_sessions(sessions: Sessions, sender: Sender<Event>) {
    loop {
        tokio::time::sleep(TICK).await;
        if sender.send(Event::Sessions(sessions.list().await)).await.is_err() {
            return;
        }
    }
}

async fn tick(sender: Sender<Event>) {
    while sender.send(Event::Tick).await.is_ok() {
        tokio::time::sleep(TICK).await;
    }
}
