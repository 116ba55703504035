//! A reader on one server: opens versions that were acknowledged, reads anywhere in them, and
//! compares every byte. A server may refuse; it may never serve another byte.

use super::random::Random;
use super::workload::{Shared, Version, pause};
use crate::ledger::{BLOCK, Value};
use crate::nbd::{Answer, Disk};
use crate::seat::text;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long one version is read.
const SESSION: Duration = Duration::from_millis(1500);
/// The longest read in blocks.
const LONGEST: usize = 64;
/// Between two reads: the machine is there for the servers.
const BREATH: Duration = Duration::from_millis(5);
const AFTER_FAILURE: Duration = Duration::from_millis(300);

/// Reads until the work ends.
pub(super) fn run(shared: &Shared, n: usize, mut random: Random) {
    while !shared.stopped() {
        if shared.is_quiet(n) {
            std::thread::sleep(BREATH);
            continue;
        }
        let (version, content) = chosen(shared, &mut random);
        if let Err(error) = session(shared, n, &version, &content, &mut random) {
            shared.tally.failed_reads.fetch_add(1, Ordering::Relaxed);
            shared.said(&error);
            pause(shared, AFTER_FAILURE);
        }
    }
}

/// Half of the time one of the newest four: those may be on their way still.
fn chosen(shared: &Shared, random: &mut Random) -> (Version, Arc<Vec<Value>>) {
    let truth = shared.truth();
    let from = if random.below(2) == 0 { truth.len().saturating_sub(4) } else { 0 };
    let place = from + random.index(truth.len() - from);
    let (version, content) = truth.iter().nth(place).expect("there is always a first version");
    (version.clone(), Arc::clone(content))
}

fn session(
    shared: &Shared,
    n: usize,
    version: &Version,
    content: &[Value],
    random: &mut Random,
) -> Result<()> {
    let seat = &shared.seats[n];
    let number = version.1.to_string();
    let opened = seat.json(&["session", "create", &version.0, "--version", &number])?;
    let mut disk = Disk::open(seat, &text(&opened, "uri")?)?;
    let until = Instant::now() + SESSION;
    while Instant::now() < until && !shared.stopped() && !shared.is_quiet(n) {
        let first = random.index(content.len());
        let count = (1 + random.index(LONGEST)).min(content.len() - first);
        let mut bytes = vec![0; count * BLOCK];
        match disk.read((first * BLOCK) as u64, &mut bytes)? {
            Answer::Done if shared.compare(n, version, first, content, &bytes) => {
                shared.tally.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                shared.last().reads[n] = Instant::now();
            }
            Answer::Done => break,
            Answer::Refused(_) => {
                shared.tally.failed_reads.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(BREATH);
    }
    drop(disk);
    seat.cli(&["session", "close", &text(&opened, "id")?]).map(drop)
}
