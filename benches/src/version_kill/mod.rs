//! kill -9 of a real server at random moments of a version's life; nothing acknowledged is lost.
//!
//! A loop writes patterns to a maintenance version, flushes, checkpoints, seals, promotes and reads
//! back, until the server is killed; then the server starts again on what it left, and everything
//! that any flush acknowledged must be there. Read next: [`cycle`] for the loop, [`ledger`] for what
//! is allowed after a crash.

pub mod cycle;
pub mod ledger;
pub mod writer;

use crate::real_server::Server;
use anyhow::{Context, Result};
use cycle::{Cycle, Tally, VDISK};
use ledger::BLOCK;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often and on what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `headwater` that is killed.
    pub program: PathBuf,
    /// Where it keeps its files; made anew.
    pub directory: PathBuf,
    /// How many times.
    pub kills: u32,
    /// The size of the disk in MiB.
    pub size_mib: u64,
    /// Where the randomness begins.
    pub seed: u64,
    /// The longest time from a start to the kill.
    pub longest: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Kills that met the loop in the middle of a step.
    pub in_a_step: u32,
    /// What the loop did.
    pub tally: Tally,
}

/// Kills as often as asked; fails at the first thing that is lost.
pub fn run(options: &Options, mut progress: impl FnMut(u32, &Tally)) -> Result<Report> {
    let server = Server::new(&options.program, &options.directory)?;
    let image = image(options.size_mib << 20);
    std::fs::write(options.directory.join("disk.raw"), &image)?;
    server.start()?;
    server.run(&["vdisk", "import", VDISK, "disk.raw"])?;
    let mut cycle = Cycle::new(image, options.seed);
    let mut delays = crate::nbd::boot_script::Numbers::new(options.seed ^ 0x5eed);
    let mut in_a_step = 0;
    for kill in 1..=options.kills {
        let delay = delays.below(options.longest.as_micros() as u64);
        in_a_step += u32::from(until_killed(&server, &mut cycle, Duration::from_micros(delay))?);
        server.start().with_context(|| format!("after kill {kill}"))?;
        cycle.inspect(&server).with_context(|| format!("after kill {kill}:\n{}", server.last_lines()))?;
        progress(kill, &cycle.tally);
    }
    server.kill();
    check(&server)?;
    Ok(Report { in_a_step, tally: cycle.tally })
}

/// Steps until the kill; answers whether it fell into a step.
fn until_killed(server: &Server, cycle: &mut Cycle, delay: Duration) -> Result<bool> {
    let killer = server.kill_after(delay);
    let begun = Instant::now();
    let mut step = Ok(());
    while step.is_ok() && !server.is_killed() {
        step = cycle.step(server);
    }
    let killed = server.is_killed();
    killer.join().ok().context("the killing thread panicked")?;
    match step {
        Err(error) if !killed => Err(error.context(format!(
            "a step failed {} ms after the start, before the kill:\n{}",
            begun.elapsed().as_millis(),
            server.last_lines()
        ))),
        step => Ok(step.is_err()),
    }
}

/// The store as a program sees it that shares no code with the one that wrote it.
fn check(server: &Server) -> Result<()> {
    let store = server.store();
    let path = store.to_str().context("the store's path is text")?;
    server.run(&["store", "check", path]).context("store check after the last kill").map(drop)
}

/// A disk of which a third is holes.
fn image(size_bytes: u64) -> Vec<u8> {
    let mut random = crate::nbd::boot_script::Numbers::new(1);
    let mut bytes = vec![0; size_bytes as usize];
    for (number, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
        if number % 48 < 32 {
            block
                .chunks_exact_mut(8)
                .for_each(|word| word.copy_from_slice(&random.below(u64::MAX).to_le_bytes()));
        }
    }
    bytes
}
