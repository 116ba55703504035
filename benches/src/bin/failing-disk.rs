//! Drafts and their versions on a failing disk: thousands of random lives with merges and prunes,
//! power losses, kills, failing syncs, write errors and full disks, each compared with a model of
//! what a draft may hold and with the bytes of every version that was confirmed.
//!
//! The disk is simulated (`store::files::simulated`): it keeps what was not synced apart and loses
//! any sectors of it. A seed that fails is printed and can be repeated alone.

use anyhow::{Result, ensure};
use clap::Parser;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use store::draft::exercise::{Tally, live, live_with_lies};

#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1_000)]
    first: u64,
    /// How many lives.
    #[arg(long, default_value_t = 2_000)]
    lives: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let next = AtomicU64::new(arguments.first);
    let end = arguments.first + arguments.lives;
    let sum = Mutex::new((Tally::default(), Vec::new()));
    let threads = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < end) {
                    let lived = catch_unwind(|| {
                        let mut tally = live(seed);
                        tally.add(live_with_lies(seed));
                        tally
                    });
                    let mut sum = sum.lock().expect("adding up does not panic");
                    match lived {
                        Ok(tally) => sum.0.add(tally),
                        Err(_) => sum.1.push(seed),
                    }
                }
            });
        }
    });
    let (tally, failed) = sum.into_inner().expect("adding up does not panic");
    report(arguments.lives, &tally, &failed)
}

fn report(lives: u64, tally: &Tally, failed: &[u64]) -> Result<()> {
    println!("power lost:                     {}", tally.power_losses);
    println!("processes killed:               {}", tally.kills);
    println!("syncs that failed:              {}", tally.failed_syncs);
    println!("requests on a full disk:        {}", tally.full);
    println!("confirmed flushes, checkpoints: {}, {}", tally.flushes, tally.checkpoints);
    println!("confirmed merges, prunes:       {}, {}", tally.merges, tally.prunes);
    println!("losses by disks that lied:      {} of {lives}, without a panic", tally.lost_by_lies);
    println!(
        "failing-disk: {lives} lives with {} crashes and failures, {} confirmed flushes, checkpoints, merges and prunes, {} lives broke a promise",
        tally.power_losses + tally.kills + tally.failed_syncs + tally.full,
        tally.flushes + tally.checkpoints + tally.merges + tally.prunes,
        failed.len(),
    );
    ensure!(failed.is_empty(), "these seeds broke a promise: {failed:?}");
    Ok(())
}
