//! kill -9 of a real server, five hundred times, in a loop of write, flush, checkpoint, seal and
//! promote: every acknowledged flush is there, no block is torn or older than one seen before, and
//! the store is sound at the end.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use headwater_benches::real_server::beside_this_program;
use headwater_benches::version_kill::{Options, run};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Parser)]
struct Arguments {
    /// Where the server keeps its files; needs 2 GiB.
    #[arg(long, default_value = "target/bench/version-kill")]
    directory: PathBuf,
    /// The program that is killed [default: headwater beside this one].
    #[arg(long)]
    headwater: Option<PathBuf>,
    /// How many times.
    #[arg(long, default_value_t = 500)]
    kills: u32,
    /// The size of the disk in MiB.
    #[arg(long, default_value_t = 64)]
    size_mib: u64,
    /// The longest time from a start to the kill, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    longest_ms: u64,
    /// Where the randomness begins [default: the clock].
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let options = Options {
        program: arguments.headwater.map_or_else(beside_this_program, Ok)?,
        directory: arguments.directory,
        kills: arguments.kills,
        size_mib: arguments.size_mib,
        seed: arguments.seed.unwrap_or_else(clock),
        longest: Duration::from_millis(arguments.longest_ms),
    };
    eprintln!("seed {}; the server's files are in {}", options.seed, options.directory.display());
    let every = if std::io::stderr().is_terminal() { 5 } else { 50 };
    let report = run(&options, |kill, tally| {
        if kill.is_multiple_of(every) {
            eprintln!("{kill} of {} kills: {tally:?}", options.kills);
        }
    })
    .with_context(|| format!("with --seed {}", options.seed))?;
    std::fs::remove_dir_all(&options.directory)?;
    let tally = report.tally;
    println!(
        "version-kill: {} kills, {} in a step; {} flushes of {} blocks acknowledged, {} checkpoints, {} seals, {} promotions; 0 lost, 0 torn, store check clean",
        options.kills,
        report.in_a_step,
        tally.flushes,
        tally.blocks,
        tally.checkpoints,
        tally.seals,
        tally.promotions
    );
    ensure!(report.in_a_step * 2 >= options.kills, "too few kills met the loop at work to show anything");
    Ok(())
}
