//! Replication against the peers: an OS update brought from one machine to others.
//!
//! Ours (real servers, mutual TLS, one etcd), `rsync --inplace` with and without zstd, and the bare
//! delta by HTTP, interleaved in one run; over links as fast as the machine, and over links of
//! 100 Mbit/s.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use headwater_benches::lan::{self, Lan};
use headwater_benches::os_update::{self, Pair};
use headwater_benches::real_server::beside_this_program;
use headwater_benches::replication::bars::{
    CASYNC, HTTP, HTTP_SLOW, OURS, OURS_SLOW, OURS_TO_3, OURS_TO_3_SLOW, RSYNC, RSYNC_SLOW, RSYNC_ZSTD,
    Results, SYNCTHING,
};
use headwater_benches::replication::files::Files;
use headwater_benches::replication::syncthing::Syncthing;
use headwater_benches::replication::{Run, ours};
use std::path::{Path, PathBuf};

#[derive(Parser)]
struct Arguments {
    /// Where everything goes; needs 18 GiB on a real disk.
    #[arg(long, default_value = "target/bench/replication-peers")]
    directory: PathBuf,
    /// The server's program [default: headwater beside this one].
    #[arg(long)]
    headwater: Option<PathBuf>,
    /// How often each contender runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The slow links, in Mbit/s.
    #[arg(long, default_value_t = 100)]
    slow_mbit: u32,
    /// Keep the two images for the next run.
    #[arg(long)]
    keep: bool,
    /// Only these contenders [default: all].
    #[arg(long)]
    only: Vec<String>,
}

/// rsync's options where it compresses.
const ZSTD: [&str; 2] = ["--compress", "--compress-choice=zstd"];

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    // The servers are told where the images are.
    arguments.directory = std::path::absolute(&arguments.directory)?;
    lan::enter()?;
    let program = arguments.headwater.clone().map_or_else(beside_this_program, Ok)?;
    let folder = &arguments.directory;
    if !arguments.keep && folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    let measured = prepare_and_measure(&arguments, &program);
    if !arguments.keep {
        std::fs::remove_dir_all(folder)?;
    }
    let (results, new_bytes) = measured?;
    println!("{}", results.table());
    let (figure, all_met) = results.figure(new_bytes);
    println!("{figure}");
    ensure!(all_met, "not all bars were met");
    Ok(())
}

/// What was measured, and the bytes of the new chunks.
fn prepare_and_measure(arguments: &Arguments, program: &Path) -> Result<(Results, u64)> {
    let pair = os_update::prepare(&arguments.directory)?;
    eprintln!(
        "{} chunks changed, {} MiB of them new, in {} runs of blocks",
        pair.changed_chunks,
        pair.new_bytes >> 20,
        pair.changes.len()
    );
    let lan = Lan::new(4)?;
    Ok((measure(arguments, &lan, program, &pair)?, pair.new_bytes))
}

fn measure(arguments: &Arguments, lan: &Lan, program: &Path, pair: &Pair) -> Result<Results> {
    let (peers, farm) = (arguments.directory.join("peers"), arguments.directory.join("farm"));
    let mut runs = Runs { only: &arguments.only, results: Results::default() };
    let ours = |receivers, mbit| {
        let ours = ours::run(lan, program, &farm, pair, receivers, mbit)?;
        eprintln!("  sealed after {:?}, {} bytes sent by then", ours.sealed, ours.sent_before);
        Ok(ours.run)
    };
    let files = Files::start(lan, pair, &peers)?;
    let mut syncthing = None;
    for round in 0..arguments.rounds {
        runs.add(OURS, || ours(1, None))?;
        runs.add(RSYNC, || files.rsync(&[]))?;
        runs.add(RSYNC_ZSTD, || files.rsync(&ZSTD))?;
        runs.add(HTTP, || files.http())?;
        runs.add(SYNCTHING, || match &syncthing {
            Some(syncthing) => Syncthing::run(syncthing, round % 2 == 1),
            None => syncthing.insert(Syncthing::start(lan, pair, &peers)?).run(false),
        })?;
    }
    drop(syncthing);
    runs.add(CASYNC, || files.casync())?;
    let slow = Some(arguments.slow_mbit);
    runs.add(OURS_SLOW, || ours(1, slow))?;
    lan.limit(slow)?;
    runs.add(RSYNC_SLOW, || files.rsync(&ZSTD))?;
    runs.add(HTTP_SLOW, || files.http())?;
    lan.limit(None)?;
    drop(files);
    std::fs::remove_dir_all(&peers)?;
    runs.add(OURS_TO_3, || ours(3, None))?;
    runs.add(OURS_TO_3_SLOW, || ours(3, slow))?;
    Ok(runs.results)
}

/// What was measured so far.
struct Runs<'a> {
    only: &'a [String],
    results: Results,
}

impl Runs<'_> {
    /// Runs a contender once more, where it is wanted.
    fn add(&mut self, name: &'static str, run: impl FnOnce() -> Result<Run>) -> Result<()> {
        if !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
            return Ok(());
        }
        let run = run().context(name)?;
        eprintln!("{name}: {run:?}");
        self.results.add(name, run);
        Ok(())
    }
}
