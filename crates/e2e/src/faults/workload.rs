//! What goes on while things break: one writer, a reader on each server, an importer; and what they
//! know together of what must be true.

use super::importer;
use super::random::Random;
use super::reader;
use super::writer::Writer;
use crate::ledger::{self, Value};
use crate::seat::Seat;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A version by the name of its vDisk and its number.
pub type Version = (String, u32);
/// How many kinds of messages are kept for the report.
const MAX_MESSAGES: usize = 200;

/// What was done, and what was refused.
#[derive(Debug, Default)]
pub struct Tally {
    /// Blocks that were written.
    pub blocks: AtomicU64,
    /// Flushes that were acknowledged.
    pub flushes: AtomicU64,
    /// Writes and flushes that were refused.
    pub refused_writes: AtomicU64,
    /// Times the writer's draft was opened anew.
    pub attachments: AtomicU64,
    /// Checkpoints that were asked for and made.
    pub checkpoints: AtomicU64,
    /// Versions that were sealed and promoted.
    pub promotions: AtomicU64,
    /// vDisks that were imported.
    pub imports: AtomicU64,
    /// Bytes that were read and compared.
    pub read_bytes: AtomicU64,
    /// Reads that were refused or broke off.
    pub failed_reads: AtomicU64,
}

/// When something last went well.
#[derive(Clone, Debug)]
pub struct Last {
    /// The last flush that was acknowledged.
    pub flush: Instant,
    /// The last compared read on each server.
    pub reads: Vec<Instant>,
}

/// What the threads share.
#[derive(Debug)]
pub struct Shared {
    /// The servers.
    pub seats: Vec<Seat>,
    /// What was done.
    pub tally: Tally,
    /// Where the writer goes next, if it can.
    pub home: AtomicUsize,
    /// The writer goes there at once.
    moves: AtomicBool,
    /// Readers of these servers read nothing for now.
    quiet: Vec<AtomicBool>,
    stopped: AtomicBool,
    truth: Mutex<BTreeMap<Version, Arc<Vec<Value>>>>,
    /// Imports of which nobody said how they ended; they are there whole or not at all.
    unknown: Mutex<BTreeMap<Version, Arc<Vec<Value>>>>,
    wrong: Mutex<Vec<String>>,
    messages: Mutex<BTreeSet<String>>,
    last: Mutex<Last>,
}

/// How often things are done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A small vDisk is imported.
    pub import_every: Duration,
    /// The written version is sealed and promoted, and the next one is made.
    pub seal_every: Duration,
}

/// The threads.
#[derive(Debug)]
pub struct Workload {
    /// What they share.
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    writer: JoinHandle<Writer>,
}

impl Workload {
    /// Starts to write, read and import; the writer's disk has one version with this content.
    pub fn start(seats: Vec<Seat>, base: Vec<Value>, seed: u64, pace: Pace) -> Self {
        let now = Instant::now();
        let shared = Arc::new(Shared {
            tally: Tally::default(),
            home: AtomicUsize::new(0),
            moves: AtomicBool::new(false),
            quiet: seats.iter().map(|_| AtomicBool::new(false)).collect(),
            stopped: AtomicBool::new(false),
            truth: Mutex::default(),
            unknown: Mutex::default(),
            wrong: Mutex::default(),
            messages: Mutex::default(),
            last: Mutex::new(Last { flush: now, reads: vec![now; seats.len()] }),
            seats,
        });
        shared.is_true((super::VDISK.to_owned(), 1), base.clone());
        let mut threads = Vec::new();
        for n in 0..shared.seats.len() {
            let (shared, random) = (Arc::clone(&shared), Random::new(seed, 100 + n as u64));
            threads.push(std::thread::spawn(move || reader::run(&shared, n, random)));
        }
        let (importing, random) = (Arc::clone(&shared), Random::new(seed, 200));
        threads.push(std::thread::spawn(move || importer::run(&importing, random, pace.import_every)));
        let writer = Writer::new(Arc::clone(&shared), &base, Random::new(seed, 300), pace.seal_every);
        let writer = std::thread::spawn(move || writer.run());
        Self { shared, threads, writer }
    }

    /// Ends the work, and gives back the writer, whose disk is as it left it.
    pub fn finish(self) -> Result<(Arc<Shared>, Writer)> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().ok().context("a reader or the importer has panicked")?;
        }
        let writer = self.writer.join().ok().context("the writer has panicked")?;
        self.shared.is_right()?;
        Ok((self.shared, writer))
    }
}

impl Shared {
    /// Whether the work is to end.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Notes a version that was acknowledged, with its content for ever.
    pub fn is_true(&self, version: Version, content: Vec<Value>) {
        self.unknown().remove(&version);
        self.truth().insert(version, Arc::new(content));
    }

    /// Notes a version that may be there with this content, or not.
    pub fn may_be_true(&self, version: Version, content: Vec<Value>) {
        self.unknown().insert(version, Arc::new(content));
    }

    /// What was acknowledged.
    pub fn truth(&self) -> MutexGuard<'_, BTreeMap<Version, Arc<Vec<Value>>>> {
        self.truth.lock().expect("no holder of this lock panics")
    }

    /// What may be there.
    pub fn unknown(&self) -> MutexGuard<'_, BTreeMap<Version, Arc<Vec<Value>>>> {
        self.unknown.lock().expect("no holder of this lock panics")
    }

    /// Notes that something is wrong; the test ends at the next look.
    pub fn wrong(&self, what: String) {
        eprintln!("WRONG: {what}");
        self.wrong.lock().expect("no holder of this lock panics").push(what);
    }

    /// Fails where a thread has found something wrong.
    pub fn is_right(&self) -> Result<()> {
        let wrong = self.wrong.lock().expect("no holder of this lock panics");
        ensure!(wrong.is_empty(), "bytes are wrong or lost:\n{}", wrong.join("\n"));
        Ok(())
    }

    /// Keeps what a server said when it refused.
    pub fn said(&self, error: &anyhow::Error) {
        let mut messages = self.messages.lock().expect("no holder of this lock panics");
        if messages.len() < MAX_MESSAGES {
            messages.insert(without_numbers(&format!("{error:#}")));
        }
    }

    /// What servers said when they refused, each kind of message once.
    pub fn messages(&self) -> BTreeSet<String> {
        self.messages.lock().expect("no holder of this lock panics").clone()
    }

    /// When things went well last.
    pub fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().expect("no holder of this lock panics")
    }

    /// Has the writer go to server `n` as soon as it can.
    pub fn send_writer_to(&self, n: usize) {
        self.home.store(n, Ordering::Relaxed);
        self.moves.store(true, Ordering::Relaxed);
    }

    /// Whether the writer was sent somewhere; once.
    pub(super) fn is_sent(&self) -> bool {
        self.moves.swap(false, Ordering::Relaxed)
    }

    /// Lets the reader of a server pause, or go on.
    pub fn set_quiet(&self, n: usize, quiet: bool) {
        self.quiet[n].store(quiet, Ordering::Relaxed);
    }

    /// Whether the reader of a server pauses.
    pub fn is_quiet(&self, n: usize) -> bool {
        self.quiet[n].load(Ordering::Relaxed)
    }

    /// Compares what was read of a version; notes what is wrong.
    pub fn compare(
        &self,
        n: usize,
        version: &Version,
        first: usize,
        content: &[Value],
        bytes: &[u8],
    ) -> bool {
        let compared = ledger::compare(content, first, bytes);
        if let Err(error) = &compared {
            let (name, (vdisk, number)) = (&self.seats[n].name, version);
            self.wrong(format!("{name} serves version {number} of {vdisk}: {error}"));
        }
        compared.is_ok()
    }
}

/// Waits, and less long where the work is to end.
pub fn pause(shared: &Shared, time: Duration) {
    let until = Instant::now() + time;
    while !shared.stopped() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20).min(time));
    }
}

/// Numbers and ids make every message another one.
fn without_numbers(message: &str) -> String {
    let mut kept = String::new();
    for letter in message.chars() {
        let letter = if letter.is_ascii_digit() { '0' } else { letter };
        if letter != '0' || !kept.ends_with('0') {
            kept.push(letter);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_differ_in_numbers_are_one() {
        assert_eq!(without_numbers("version 12 at 10:33"), without_numbers("version 7 at 9:1"));
    }
}
