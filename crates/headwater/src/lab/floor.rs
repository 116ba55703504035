//! The machines of a lab as one state machine: what they and the server say in, what to show and
//! to do out.
//!
//! Pure: no clock, no sockets. `runner.rs` brings the events and carries out the effects.

use super::qmp::{Command, Notice};
use super::serial::{Console, SerialEvent};
use super::table::Column;
use super::timeline::{Step, Timeline};
use super::verdict::{Boot, Goal, Next, Progress};
use model::MacAddress;
use std::time::{Duration, SystemTime};

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A serial console said something.
    Console {
        /// Which machine's.
        machine: usize,
        /// What.
        bytes: Vec<u8>,
    },
    /// QEMU said something.
    Notice {
        /// About which machine.
        machine: usize,
        /// What.
        notice: Notice,
    },
    /// QEMU is gone.
    Gone {
        /// Which machine's.
        machine: usize,
    },
    /// The server's sessions, oldest first.
    Sessions(Vec<SessionNews>),
    /// Time passes.
    Tick,
}

/// What the server knows of a machine's boot.
#[derive(Clone, Debug)]
pub(super) struct SessionNews {
    /// The machine.
    pub(super) mac: MacAddress,
    /// The device's name.
    pub(super) device: String,
    /// The steps so far.
    pub(super) steps: Vec<(String, SystemTime)>,
    /// Bytes that it read, as far as it has told.
    pub(super) read_bytes: Option<u64>,
    /// Bytes in its write cache and the cache's limit.
    pub(super) cache_bytes: Option<(u64, u64)>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// A step was reached; the table shows it, and so does a line where there is no table.
    Step(String),
    /// Something that both show.
    Say(String),
    /// All machines came to the end of a boot: the table stays as it is.
    BootEnded,
    /// Tell QEMU.
    Tell(usize, Command),
    /// All machines did what was asked.
    AllDone,
    /// One never will.
    Failed {
        /// Which.
        machine: usize,
        /// Why.
        why: String,
    },
}

/// One machine.
struct Guest {
    mac: MacAddress,
    label: String,
    console: Console,
    progress: Progress,
    boots: Vec<Timeline>,
    asked_at: Option<SystemTime>,
    note: String,
}

/// All machines.
pub(super) struct Floor {
    guests: Vec<Guest>,
    done: bool,
}

impl Floor {
    /// Machines that were switched on at these times.
    pub(super) fn new(goal: Goal, machines: &[(MacAddress, SystemTime)]) -> Self {
        let guest = |(index, (mac, power_on)): (usize, &(MacAddress, SystemTime))| Guest {
            mac: *mac,
            label: format!("machine-{}", index + 1),
            console: Console::default(),
            progress: Progress::new(goal),
            boots: vec![Timeline::new(*power_on)],
            asked_at: None,
            note: String::new(),
        };
        Self { guests: machines.iter().enumerate().map(guest).collect(), done: false }
    }

    /// Takes in an event.
    pub(super) fn apply(&mut self, event: Event, now: SystemTime) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Console { machine, bytes } => self.console(machine, &bytes, now, &mut effects),
            Event::Notice { machine, notice } => self.notice(machine, notice, now, &mut effects),
            Event::Gone { machine } => self.gone(machine, &mut effects),
            Event::Sessions(sessions) => self.sessions(&sessions, &mut effects),
            Event::Tick => self.tick(now, &mut effects),
        }
        self.all_together(now, &mut effects);
        effects
    }

    /// The table's columns: every machine's boot at hand.
    pub(super) fn columns(&self, now: SystemTime) -> Vec<Column<'_>> {
        self.guests.iter().map(|guest| guest.column(now)).collect()
    }

    /// Whether the table still changes.
    pub(super) fn booting(&self) -> bool {
        self.guests.iter().any(|guest| guest.timeline().at(Step::Login).is_none())
    }

    /// What a machine is called.
    pub(super) fn label(&self, machine: usize) -> &str {
        &self.guests[machine].label
    }

    /// The newest lines of a machine's console.
    pub(super) fn last_lines(&self, machine: usize) -> Vec<String> {
        self.guests[machine].console.recent()
    }

    /// The first machine that has not come to its end, and what it is busy with.
    pub(super) fn laggard(&self) -> Option<(usize, &'static str)> {
        let machine = self.guests.iter().position(|guest| !guest.progress.ended())?;
        let step = self.guests[machine].timeline().next();
        Some((machine, step.map_or("its lab service or its reboot", Step::label)))
    }

    /// Seconds from power-on to the login prompt, a list of all machines for each boot.
    pub(super) fn logins(&self) -> Vec<Vec<Duration>> {
        let boots = self.guests.iter().map(|guest| guest.boots.len()).max().unwrap_or_default();
        let login = |guest: &Guest, boot: usize| guest.boots.get(boot)?.at(Step::Login);
        (0..boots).map(|boot| self.guests.iter().filter_map(|guest| login(guest, boot)).collect()).collect()
    }

    fn console(&mut self, machine: usize, bytes: &[u8], now: SystemTime, effects: &mut Vec<Effect>) {
        let guest = &mut self.guests[machine];
        for event in guest.console.push(bytes) {
            if event == SerialEvent::Login {
                guest.reached(Step::Login, now, effects);
            }
            let next = guest.progress.console(&event, now);
            follow(machine, next, effects);
        }
    }

    fn notice(&mut self, machine: usize, notice: Notice, now: SystemTime, effects: &mut Vec<Effect>) {
        let guest = &mut self.guests[machine];
        if notice == Notice::Shutdown {
            return;
        }
        let before = guest.progress.boot();
        let next = guest.progress.restarted();
        follow(machine, next, effects);
        if before == Boot::First && guest.progress.boot() == Boot::Second {
            guest.boots.push(Timeline::new(now));
            guest.note.clear();
            let took = guest.asked_at.and_then(|asked| now.duration_since(asked).ok()).unwrap_or_default();
            effects.push(Effect::Say(format!("{} went down in {:.1} s", guest.label, took.as_secs_f64())));
        }
    }

    fn gone(&mut self, machine: usize, effects: &mut Vec<Effect>) {
        let guest = &self.guests[machine];
        effects.push(match guest.progress.ended() {
            true => Effect::Say(format!("{} is off", guest.label)),
            false => Effect::Failed { machine, why: "it switched itself off".to_owned() },
        });
    }

    fn sessions(&mut self, sessions: &[SessionNews], effects: &mut Vec<Effect>) {
        for session in sessions {
            let Some(guest) = self.guests.iter_mut().find(|guest| guest.mac == session.mac) else { continue };
            guest.label.clone_from(&session.device);
            for (label, at) in &session.steps {
                if let Some(step) = Step::of_session(label) {
                    guest.reached(step, *at, effects);
                }
            }
            guest.note = note(session);
        }
    }

    fn tick(&mut self, now: SystemTime, effects: &mut Vec<Effect>) {
        for (machine, guest) in self.guests.iter_mut().enumerate() {
            let next = guest.progress.tick(now);
            follow(machine, next, effects);
        }
    }

    /// What happens when every machine has come as far as the others: a boot's table is whole.
    fn all_together(&mut self, now: SystemTime, effects: &mut Vec<Effect>) {
        if self.guests.iter().all(|guest| guest.progress.wants_reboot()) {
            effects.push(Effect::BootEnded);
            for (machine, guest) in self.guests.iter_mut().enumerate() {
                guest.progress.rebooting(now);
                guest.asked_at = Some(now);
                effects.push(Effect::Tell(machine, Command::CtrlAltDel));
            }
        }
        let failed = effects.iter().any(|effect| matches!(effect, Effect::Failed { .. }));
        if !self.done && !failed && self.guests.iter().all(|guest| guest.progress.ended()) {
            self.done = true;
            effects.extend([Effect::BootEnded, Effect::AllDone]);
        }
    }
}

impl Guest {
    fn timeline(&self) -> &Timeline {
        self.boots.last().expect("a machine was switched on")
    }

    fn reached(&mut self, step: Step, at: SystemTime, effects: &mut Vec<Effect>) {
        let timeline = self.boots.last_mut().expect("a machine was switched on");
        if timeline.note(step, at) {
            let after = timeline.at(step).unwrap_or_default().as_secs_f64();
            effects.push(Effect::Step(format!("{after:>7.1} s  {:<12} {}", self.label, step.label())));
        }
    }

    fn column(&self, now: SystemTime) -> Column<'_> {
        let timeline = self.timeline();
        let booting = timeline.at(Step::Login).is_none();
        let title = match self.progress.boot() {
            Boot::First => self.label.clone(),
            Boot::Second => format!("{}, second boot", self.label),
        };
        let busy = booting.then(|| now.duration_since(timeline.power_on()).unwrap_or_default());
        Column { title, timeline, busy, note: self.note.clone() }
    }
}

fn follow(machine: usize, next: Next, effects: &mut Vec<Effect>) {
    match next {
        // Machines reboot and end together: see `all_together`.
        Next::Wait | Next::Reboot | Next::Done => {}
        Next::Force => effects.push(Effect::Tell(machine, Command::Reset)),
        Next::Failed(why) => effects.push(Effect::Failed { machine, why }),
    }
}

fn note(session: &SessionNews) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let read = session.read_bytes.map(|bytes| format!("read {} MiB", mib(bytes)));
    let cache = session.cache_bytes.map(|(used, limit)| format!("cache {}/{} MiB", mib(used), mib(limit)));
    read.into_iter().chain(cache).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
