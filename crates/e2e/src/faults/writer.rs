//! The one writer: patterns into a maintenance version, flushed; checkpoints, hand-overs, seals and
//! promotions in between. When its session is lost it goes on wherever the draft is given to it, and
//! finds there everything that a flush acknowledged.

use super::VDISK;
use super::random::Random;
use super::workload::{Shared, pause};
use crate::ledger::{BLOCK, Ledger, Value};
use crate::nbd::{Answer, Disk};
use crate::seat::{Seat, text};
use anyhow::{Context, Result, bail};
use serde_json::Value as Json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Writes of one round, blocks of a write.
const WRITES: usize = 8;
const BLOCKS: usize = 8;
/// Between two rounds.
const BREATH: Duration = Duration::from_millis(30);
const AFTER_FAILURE: Duration = Duration::from_millis(300);
/// Of so many rounds one ends with a checkpoint, with a hand-over to another server.
const CHECKPOINT: u64 = 40;
const HAND_OVER: u64 = 80;
/// Blocks that one version changes at most, so that many versions fit into a small store.
const WINDOW: usize = 1024;
/// How long the draft is asked for until an admin takes the lease from whom it was lost with.
const RELEASE_AFTER: Duration = Duration::from_secs(3);
/// How long a disk may refuse writes until the writer tries another server.
const MOVE_AFTER: Duration = Duration::from_secs(3);

/// The writer and what it knows of its disk.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    ledger: Ledger,
    random: Random,
    session: Option<Session>,
    /// A session that was lost: it may outlive the fault.
    lost: Option<Session>,
    /// Since when the draft is asked for, and refused.
    asked_since: Option<Instant>,
    refused_since: Option<Instant>,
    epoch: u64,
    /// The version that is written; others are none of ours, whatever a server that lags says.
    version: u32,
    /// Where in the disk it is written, and since when.
    window: usize,
    begun: Instant,
    seal_every: Duration,
}

#[derive(Debug)]
struct Session {
    n: usize,
    id: String,
    uri: String,
    /// None where the connection is lost.
    disk: Option<Disk>,
}

/// How far the version has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Draft,
    Sealed,
    Production,
}

impl Writer {
    /// A writer of a disk whose version 1 is in production with this content.
    pub(super) fn new(shared: Arc<Shared>, base: &[Value], random: Random, seal_every: Duration) -> Self {
        Self {
            shared,
            ledger: Ledger::new(base),
            random,
            session: None,
            lost: None,
            asked_since: None,
            refused_since: None,
            epoch: 1,
            version: 1,
            window: 0,
            begun: Instant::now(),
            seal_every,
        }
    }

    pub(super) fn run(mut self) -> Self {
        while !self.shared.stopped() && self.shared.is_right().is_ok() {
            if let Err(error) = self.step() {
                self.shared.said(&error);
                pause(&self.shared, AFTER_FAILURE);
            }
        }
        self
    }

    /// Seals and promotes what was written last, and answers its number; to be called again where it
    /// fails.
    pub fn end(&mut self) -> Result<u32> {
        if let Some(mut session) = self.session.take() {
            self.flush(&mut session)?;
            self.close(session)?;
        }
        loop {
            match self.stage()? {
                Stage::Draft if self.ledger.settled().is_none() => {
                    self.attach()?;
                    bail!("the draft is open once more")
                }
                Stage::Draft => drop(self.anywhere(&["version", "seal", VDISK, &self.number()])?),
                Stage::Sealed => self.promote()?,
                Stage::Production => return Ok(self.version),
            }
        }
    }

    fn step(&mut self) -> Result<()> {
        if let Some(session) = self.session.take() {
            return self.work(session);
        }
        match self.stage()? {
            Stage::Draft => self.attach(),
            Stage::Sealed => self.promote(),
            Stage::Production => self.create(),
        }
    }

    // ---- writing ----------------------------------------------------------------------------

    fn work(&mut self, mut session: Session) -> Result<()> {
        let written = self.round(&mut session);
        match written {
            Ok(Answer::Done) => self.refused_since = None,
            Ok(Answer::Refused(_)) => return self.refused(session),
            Err(error) => {
                session.disk = None;
                self.lost = Some(session);
                return Err(error.context("the writer's session is lost"));
            }
        }
        std::thread::sleep(BREATH);
        if self.shared.is_sent() {
            return self.close(session);
        }
        if self.begun.elapsed() > self.seal_every {
            return self.seal(session);
        }
        match self.random.below(CHECKPOINT * HAND_OVER) {
            dice if dice % CHECKPOINT == 0 => {
                self.session = Some(session);
                self.checkpoint()
            }
            dice if dice % HAND_OVER == 1 => self.hand_over(session),
            _ => {
                self.session = Some(session);
                Ok(())
            }
        }
    }

    /// Some writes and a flush.
    fn round(&mut self, session: &mut Session) -> Result<Answer> {
        for _ in 0..1 + self.random.index(WRITES) {
            let count = 1 + self.random.index(BLOCKS);
            let first = self.window + self.random.index(WINDOW - count);
            let blocks = (first..first + count).flat_map(|block| self.ledger.write(block, self.epoch));
            let bytes: Vec<u8> = blocks.collect();
            let disk = session.disk.as_mut().context("the session has a connection")?;
            let answer = disk.write((first * BLOCK) as u64, &bytes)?;
            if answer != Answer::Done {
                self.ledger.refused(count);
                return Ok(answer);
            }
            self.shared.tally.blocks.fetch_add(count as u64, Ordering::Relaxed);
        }
        self.flush(session)
    }

    fn flush(&mut self, session: &mut Session) -> Result<Answer> {
        let answer = session.disk.as_mut().context("the session has a connection")?.flush()?;
        if answer == Answer::Done {
            self.ledger.flushed();
            self.shared.tally.flushes.fetch_add(1, Ordering::Relaxed);
            self.shared.last().flush = Instant::now();
        }
        Ok(answer)
    }

    /// The disk takes no writes for now: its store is full, or its records are away.
    fn refused(&mut self, session: Session) -> Result<()> {
        self.shared.tally.refused_writes.fetch_add(1, Ordering::Relaxed);
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        pause(&self.shared, AFTER_FAILURE);
        if since.elapsed() < MOVE_AFTER {
            self.session = Some(session);
            return Ok(());
        }
        self.refused_since = None;
        self.hand_over(session)
    }

    fn checkpoint(&mut self) -> Result<()> {
        let Some(session) = &self.session else { return Ok(()) };
        let words = ["version", "checkpoint", VDISK, &self.number()];
        self.shared.seats[session.n].cli(&words)?;
        self.shared.tally.checkpoints.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn hand_over(&mut self, session: Session) -> Result<()> {
        self.shared.home.store(self.random.index(self.shared.seats.len()), Ordering::Relaxed);
        self.close(session)
    }

    fn seal(&mut self, session: Session) -> Result<()> {
        self.hand_over(session)?;
        if self.ledger.settled().is_none() {
            // What became of writes that were refused is seen when the draft is opened again.
            return Ok(());
        }
        self.anywhere(&["version", "seal", VDISK, &self.number()]).map(drop)
    }

    fn close(&mut self, session: Session) -> Result<()> {
        drop(session.disk);
        self.shared.seats[session.n].cli(&["session", "close", &session.id]).map(drop)
    }

    // ---- getting the draft ------------------------------------------------------------------

    /// Opens the draft where it is given to us: the lost session, home, anywhere.
    fn attach(&mut self) -> Result<()> {
        let asked_since = *self.asked_since.get_or_insert_with(Instant::now);
        if let Some(mut lost) = self.lost.take() {
            match Disk::open(&self.shared.seats[lost.n], &lost.uri) {
                Ok(disk) => {
                    lost.disk = Some(disk);
                    return self.opened(lost);
                }
                Err(error) => self.shared.said(&error),
            }
            self.lost = Some(lost);
        }
        let home = self.shared.home.load(Ordering::Relaxed);
        let mut order: Vec<usize> = (0..self.shared.seats.len()).filter(|n| *n != home).collect();
        self.random.shuffle(&mut order);
        order.insert(0, home);
        for n in order {
            match self.ask(n) {
                Ok(session) => return self.opened(session),
                Err(error) => self.shared.said(&error),
            }
        }
        if asked_since.elapsed() > RELEASE_AFTER {
            // Gives up nothing: who has unsaved bytes saves them when it can.
            (self.asked_since, self.lost) = (None, None);
            self.anywhere(&["version", "release", VDISK, &self.number()])?;
        }
        bail!("no server gives the draft")
    }

    fn ask(&self, n: usize) -> Result<Session> {
        let seat: &Seat = &self.shared.seats[n];
        let opened = seat.json(&["session", "create", VDISK, "--version", &self.number(), "--write"])?;
        let (id, uri) = (text(&opened, "id")?, text(&opened, "uri")?);
        let disk = Some(Disk::open(seat, &uri)?);
        Ok(Session { n, id, uri, disk })
    }

    /// Whatever was acknowledged must be there.
    fn opened(&mut self, mut session: Session) -> Result<()> {
        let bytes = session.disk.as_mut().context("the session has a connection")?.read_all()?;
        if let Err(error) = self.ledger.observe(&bytes) {
            let (name, version) = (&self.shared.seats[session.n].name, self.version);
            self.shared.wrong(format!("draft {version} opened on {name}: {error}"));
            return Err(error);
        }
        (self.asked_since, self.lost, self.epoch) = (None, None, self.epoch + 1);
        self.shared.tally.attachments.fetch_add(1, Ordering::Relaxed);
        self.session = Some(session);
        Ok(())
    }

    // ---- versions ---------------------------------------------------------------------------

    /// A version that is sealed: its content is known for ever.
    fn promote(&mut self) -> Result<()> {
        let version = (VDISK.to_owned(), self.version);
        if !self.shared.truth().contains_key(&version) {
            let content = self.ledger.settled().context("a version was sealed that was not settled")?;
            self.shared.is_true(version, content);
        }
        self.anywhere(&["version", "promote", VDISK, &self.number(), "--to", "production"])?;
        self.shared.tally.promotions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The next version. Where it was not told whether one was made, another one is.
    fn create(&mut self) -> Result<()> {
        let words = ["version", "create", VDISK, "--from", &self.number(), "--output", "json"];
        let made: Json = serde_json::from_str(&self.anywhere(&words)?)?;
        self.version = made["number"].as_u64().context("a version has a number")? as u32;
        self.window = self.random.index(self.ledger.blocks() - WINDOW);
        self.begun = Instant::now();
        Ok(())
    }

    /// What any server says of the version: none may know it wrong, but late.
    fn stage(&mut self) -> Result<Stage> {
        let said = self.anywhere(&["version", "show", VDISK, &self.number(), "--output", "json"])?;
        let shown: Json = serde_json::from_str(&said)?;
        Ok(match (text(&shown, "state")?.as_str(), text(&shown, "access")?.as_str()) {
            ("draft", _) => Stage::Draft,
            (_, "production") => Stage::Production,
            _ => Stage::Sealed,
        })
    }

    fn anywhere(&mut self, words: &[&str]) -> Result<String> {
        let n = self.random.index(self.shared.seats.len());
        self.shared.seats[n].cli(words)
    }

    fn number(&self) -> String {
        self.version.to_string()
    }
}
