//! What happens, one thing after the other, in the order of the simulated time.

mod act;
mod deliver;

use crate::Flaw;
use crate::check::{Broken, Ledger};
use crate::commands::{Intent, first_farm, vdisk};
use crate::disk::{CHUNKS, Disk, root_of};
use crate::network::{Message, Network, SERVERS, name};
use crate::random::Random;
use crate::server::Server;
use farm::{Change, FarmView, roots_in_use};
use mesh::engine::{Action, Event, Slot};
use model::{Root, VersionNumber};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How many things people, devices and faults do in one run.
const ACTS: u32 = 400;
/// How long after the last fault the servers may take to have the same contents.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a server looks around.
const BEAT: Duration = Duration::from_millis(100);
/// How long a server waits for the answer of a transaction.
const ANSWER: Duration = Duration::from_millis(1500);
/// A peer that was not heard for so long is down.
const DEAF: Duration = Duration::from_secs(2);
/// How many lines of the trace are kept.
const TRACE_LINES: usize = 400;

/// What a run went through without anything being broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Writes that devices were told are safe.
    pub acknowledged: u64,
    /// Versions that were sealed.
    pub sealed: u64,
    /// Promotions to production.
    pub promoted: u64,
    /// Versions that were deleted.
    pub deleted: u64,
    /// Contents that were pruned from a server.
    pub pruned: u64,
    /// Servers that crashed.
    pub crashes: u64,
    /// Chunks that came from a peer.
    pub chunks: u64,
    /// Things that happened in all.
    pub steps: u64,
}

/// Something that was broken, and how it came to that.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed: run it again, and the same happens.
    pub seed: u64,
    /// What was broken.
    pub broken: Broken,
    /// What happened, last lines last.
    pub trace: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.trace.len().saturating_sub(60);
        self.trace[from..].iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "broken: {:?}", self.broken)?;
        write!(
            f,
            "hint: the same again: `cargo run --release -p headwater-sim --example sim -- {}`",
            self.seed
        )
    }
}

/// Something that is going to happen.
#[derive(Debug)]
enum Happening {
    Deliver { from: usize, incarnation: u64, to: usize, message: Message },
    AtDatabase { sent: Sent, change: Change },
    Answer { sent: Sent, committed: bool },
    GiveUp(Sent),
    Wake { server: usize, incarnation: u64 },
    Beat { server: usize, incarnation: u64, count: u64 },
    Restart(usize),
    Act,
}

/// A transaction on its way.
#[derive(Clone, Debug)]
struct Sent {
    server: usize,
    incarnation: u64,
    id: u64,
    intent: Intent,
}

/// Everything there is.
struct World {
    flaw: Flaw,
    random: Random,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Happening>,
    /// A number that is used once: for order, for transactions, for what is written.
    next: u64,
    database: Arc<FarmView>,
    network: Network,
    servers: Vec<Server>,
    ledger: Ledger,
    acts_left: u32,
    outcome: Outcome,
    trace: Vec<String>,
}

/// Plays the world of a seed to its end.
pub fn run(seed: u64, flaw: Flaw) -> Result<Outcome, Box<Finding>> {
    let mut world = World::new(seed, flaw);
    match world.play() {
        Ok(()) => Ok(world.outcome),
        Err(broken) => Err(Box::new(Finding { seed, broken, trace: world.trace })),
    }
}

/// The same, with the trace also where nothing is broken.
pub fn trace(seed: u64, flaw: Flaw) -> (Vec<String>, Result<Outcome, Broken>) {
    let mut world = World::new(seed, flaw);
    let result = world.play();
    (world.trace, result.map(|()| world.outcome))
}

impl Outcome {
    /// Takes in what another run went through.
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.sealed += other.sealed;
        self.promoted += other.promoted;
        self.deleted += other.deleted;
        self.pruned += other.pruned;
        self.crashes += other.crashes;
        self.chunks += other.chunks;
        self.steps += other.steps;
    }
}

impl World {
    fn new(seed: u64, flaw: Flaw) -> Self {
        let image = (1..=u64::from(CHUNKS)).collect();
        let root = root_of(&image);
        let mut first = Disk::default();
        first.put_whole(root, &image);
        let mut ledger = Ledger::default();
        ledger.names(root, &image).expect("it is the first");
        ledger.sealed(VersionNumber(1), root).expect("nobody has written");
        let disks = [first, Disk::default(), Disk::default()];
        let servers = disks.into_iter().enumerate();
        let servers = servers.map(|(at, disk)| Server::start(at, disk, 1, Duration::ZERO)).collect();
        let mut world = Self {
            flaw,
            random: Random::new(seed),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            next: 1000,
            database: Arc::new(first_farm(root)),
            network: Network::default(),
            servers,
            ledger,
            acts_left: ACTS,
            outcome: Outcome::default(),
            trace: Vec::new(),
        };
        (0..SERVERS).for_each(|server| world.begin_beating(server));
        world.after(BEAT, Happening::Act);
        world
    }

    fn play(&mut self) -> Result<(), Broken> {
        let mut end = Duration::MAX;
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            self.now = at;
            self.outcome.steps += 1;
            if self.acts_left == 0 && end == Duration::MAX {
                end = self.now + PATIENCE;
                self.end_faults();
            }
            let looks = matches!(happening, Happening::Beat { .. });
            self.happen(happening)?;
            if looks && end != Duration::MAX && self.is_settled() {
                return self.look_at_the_end();
            }
            if self.now > end {
                return Err(Broken::NotConverged(self.what_is_missing()));
            }
        }
        unreachable!("servers beat for ever")
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Broken> {
        match happening {
            Happening::Deliver { from, incarnation, to, message } => {
                if self.servers[from].incarnation == incarnation && self.servers[to].up {
                    self.deliver(from, to, message);
                }
                Ok(())
            }
            Happening::AtDatabase { sent, change } => self.at_database(sent, &change),
            Happening::Answer { sent, committed } => self.answered(sent, committed),
            Happening::GiveUp(sent) => {
                self.give_up(&sent);
                Ok(())
            }
            Happening::Wake { server, incarnation } => {
                if self.lives(server, incarnation) {
                    self.tell(server, Event::Tick);
                }
                Ok(())
            }
            Happening::Beat { server, incarnation, count } => {
                if self.lives(server, incarnation) {
                    self.beat(server, count);
                    self.after(BEAT, Happening::Beat { server, incarnation, count: count + 1 });
                }
                Ok(())
            }
            Happening::Restart(server) => self.restart(server),
            Happening::Act => {
                self.acts_left = self.acts_left.saturating_sub(1);
                let next = Duration::from_millis(20 + self.random.below(150));
                if self.acts_left > 0 {
                    self.after(next, Happening::Act);
                    return self.act();
                }
                Ok(())
            }
        }
    }

    fn lives(&self, server: usize, incarnation: u64) -> bool {
        self.servers[server].up && self.servers[server].incarnation == incarnation
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.next += 1;
        self.queue.insert((self.now + delay, self.next), happening);
    }

    fn begin_beating(&mut self, server: usize) {
        let incarnation = self.servers[server].incarnation;
        let delay = Duration::from_millis(self.random.below(100));
        self.after(delay, Happening::Beat { server, incarnation, count: 0 });
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace.len() >= TRACE_LINES {
            self.trace.drain(..TRACE_LINES / 2);
        }
        self.trace.push(format!("{:>9.3} {}", self.now.as_secs_f64(), text()));
    }

    /// Tells a server's replication what happened, and does what it wants.
    fn tell(&mut self, at: usize, event: Event) {
        let server = &mut self.servers[at];
        for action in server.engine.handle(self.now - server.started, event) {
            match action {
                Action::Ask { peer, request, root, chunks, .. } => {
                    let to = (0..SERVERS).find(|to| name(*to) == peer.as_str()).expect("one of ours");
                    self.send(at, to, Message::Ask { request, root, chunks });
                }
                Action::WakeAt(when) => {
                    let (server, incarnation) = (at, self.servers[at].incarnation);
                    let delay = (self.servers[at].started + when).saturating_sub(self.now);
                    self.after(delay, Happening::Wake { server, incarnation });
                }
                Action::Completed(root) => {
                    self.note(|| format!("{} has all of {}", name(at), root.short()));
                }
                Action::Cancel { .. } | Action::Report(_) => {}
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if let Some(delay) = self.network.delay(from, to, &mut self.random) {
            let incarnation = self.servers[from].incarnation;
            self.after(delay, Happening::Deliver { from, incarnation, to, message });
        }
    }

    fn end_faults(&mut self) {
        self.note(|| "all faults end".into());
        self.network.heal();
        self.servers.iter_mut().for_each(|server| server.sessions.clear());
        (0..SERVERS).for_each(|at| self.tell(at, Event::Slot(Slot::Open)));
    }

    /// Whether all servers have all that the records need, and the records say so.
    fn is_settled(&self) -> bool {
        let has = |server: &Server| {
            let name = crate::commands::server_name(server.at);
            server.up
                && roots_in_use(&self.database).into_iter().all(|root| {
                    server.disk.is_whole(root) && self.database.copies.contains_key(&(root, name.clone()))
                })
        };
        self.servers.iter().all(has)
    }

    fn look_at_the_end(&mut self) -> Result<(), Broken> {
        self.outcome.acknowledged = self.ledger.acknowledged;
        for server in &self.servers {
            self.ledger.disk(server.at, &server.disk)?;
        }
        self.ledger.production(&self.database, &vdisk())?;
        self.look_at_copies()
    }

    /// Every chunk that a device may read is on some disk.
    fn look_at_sources(&self, root: Root) -> Result<(), Broken> {
        let somewhere = |chunk| self.servers.iter().any(|of| of.disk.read(root, chunk).is_some());
        match (0..CHUNKS).find(|chunk| !somewhere(*chunk)) {
            None => Ok(()),
            Some(chunk) => {
                let what = format!("chunk {chunk} of {}, which a device reads, is nowhere", root.short());
                Err(Broken::Deleted(what))
            }
        }
    }

    fn look_at_copies(&self) -> Result<(), Broken> {
        let disks: Vec<&Disk> = self.servers.iter().map(|server| &server.disk).collect();
        self.ledger.copies(&self.database, disks.try_into().expect("one for each server"))
    }

    fn what_is_missing(&self) -> String {
        let of = |server: &Server| {
            let missing = roots_in_use(&self.database).into_iter().map(|root| {
                let reason = server.engine.backlog(root).map(|backlog| backlog.reason);
                format!("{} lacks {} ({reason:?})", root.short(), server.disk.missing(root).len())
            });
            let records =
                self.database.copies.keys().filter(|(_, of)| of.as_str() == name(server.at)).count();
            let (up, waits) = (server.up, server.waits_for.is_some());
            let missing = missing.collect::<Vec<_>>().join(", ");
            format!(
                "{} (up {up}, waits {waits}, {records} copies in the records): {missing}",
                name(server.at)
            )
        };
        self.servers.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}
