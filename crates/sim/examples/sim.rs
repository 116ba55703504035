//! The long form of the simulation (`cargo xtask show sim`); `tests/sim.rs` is the short one.
//!
//! `cargo run --release -p headwater-sim --example sim -- 37` plays one seed again and prints what
//! happens in it; `-- 37 presence`, `promotion`, `prune`, `others` the same with a planted flaw.

extern crate headwater_sim as sim;

use sim::{Flaw, Outcome, run, trace};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many worlds are played.
const SEEDS: u64 = 100_000;
/// How many at a time.
const THREADS: usize = 2;
/// How many worlds a planted flaw may take to be found.
const FLAW_SEEDS: u64 = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(|seed| seed.parse()) {
        None => all(),
        Some(Ok(seed)) => one(seed, flaw(arguments.get(1).map(String::as_str))),
        Some(Err(_)) => {
            eprintln!("{:?} is no seed\nhint: give a number, or nothing to play all", arguments[0]);
            ExitCode::FAILURE
        }
    }
}

fn flaw(name: Option<&str>) -> Flaw {
    match name {
        Some("presence") => Flaw::PresenceBeforeData,
        Some("promotion") => Flaw::PromotionUnchecked,
        Some("prune") => Flaw::PruneWithoutSessions,
        Some("others") => Flaw::OthersNotAsked,
        _ => Flaw::None,
    }
}

fn one(seed: u64, flaw: Flaw) -> ExitCode {
    let (lines, result) = trace(seed, flaw);
    lines.iter().for_each(|line| println!("{line}"));
    match result {
        Ok(outcome) => println!("nothing is broken: {outcome:?}"),
        Err(broken) => {
            println!("broken: {broken:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn all() -> ExitCode {
    let flaws = [
        Flaw::PresenceBeforeData,
        Flaw::PromotionUnchecked,
        Flaw::PruneWithoutSessions,
        Flaw::OthersNotAsked,
    ];
    let found = flaws.into_iter().filter_map(|flaw| (0..FLAW_SEEDS).find(|seed| run(*seed, flaw).is_err()));
    let found: Vec<u64> = found.collect();
    println!("planted flaws are found with seeds {found:?}");
    let (next, broken) = (AtomicU64::new(0), AtomicU64::new(0));
    let total = Mutex::new(Outcome::default());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| play_some(&next, &broken, &total));
        }
    });
    let (broken, total) = (broken.into_inner(), total.into_inner().expect("no thread has panicked"));
    println!(
        "sim: {SEEDS} worlds, {broken} broken, {} of 4 planted flaws found; {} acknowledged writes, {} crashes, \
         {} promotions, {} contents pruned",
        found.len(),
        total.acknowledged,
        total.crashes,
        total.promoted,
        total.pruned
    );
    if broken == 0 && found.len() == 4 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play_some(next: &AtomicU64, broken: &AtomicU64, total: &Mutex<Outcome>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= SEEDS {
            return;
        }
        match run(seed, Flaw::None) {
            Ok(outcome) => total.lock().expect("no thread has panicked").add(&outcome),
            Err(finding) => {
                broken.fetch_add(1, Ordering::Relaxed);
                println!("{finding}");
            }
        }
    }
}
