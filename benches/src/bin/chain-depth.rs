//! Reading a disk with fifty versions below it against the same bytes in one layer.
//!
//! Through the disk itself and through the NBD server, random reads of 4 KiB and sequential ones
//! of 1 MiB, everything in the page cache, all contestants interleaved in each round. qcow2 chains
//! of 1, 10 and 50 images with the same changes, served by qemu-nbd, are the reference. At the end
//! a disk of 1 TiB with 50 versions is opened. Exits non-zero where fifty versions cost more than
//! 1.05 times one through the server, which is how a device reads a vDisk, in time or in CPU time.
//! The disk by itself, a bare `pread` of 1.3 us, is told beside it: there the kernel's page cache
//! is seen, which keeps a sparse file in smaller folios than a whole one.

#[path = "chain-depth/contest.rs"]
mod contest;
#[path = "chain-depth/make.rs"]
mod make;
#[path = "chain-depth/serve.rs"]
mod serve;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
struct Arguments {
    /// Where everything goes; needs 6 GiB.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// How often each contestant runs each load.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long each load lasts.
    #[arg(long, default_value_t = 500)]
    run_ms: u64,
    /// The size of the disk in MiB.
    #[arg(long, default_value_t = 768)]
    size_mib: u64,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Subcommand)]
enum Child {
    /// Our server: serves the version with the most layers of a store until it is ended.
    #[command(hide = true)]
    Serve {
        /// The store.
        #[arg(long)]
        store: PathBuf,
    },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(Child::Serve { store }) = &arguments.child {
        serve::serve(store)?;
    }
    std::fs::create_dir_all(&arguments.directory)?;
    let scratch = tempfile::Builder::new().prefix("chain-depth").tempdir_in(&arguments.directory)?;
    let made = make::everything(&arguments.directory, scratch.path(), arguments.size_mib << 20)?;
    let run = contest::Run { rounds: arguments.rounds, length: Duration::from_millis(arguments.run_ms) };
    let ratios = contest::measure(&made, &run)?;
    let opened = make::open_a_tebibyte(scratch.path())?;
    let served = ratios.iter().filter(|(name, _)| name.starts_with("server"));
    let worst = served.map(|(_, ratio)| *ratio).fold(0.0, f64::max);
    let all: Vec<String> = ratios.iter().map(|(name, ratio)| format!("{name} {ratio:.3}")).collect();
    println!("{opened}");
    println!(
        "chain-depth: 50 versions against 1, cost: {}; worst of the server {worst:.3}, bar 1.05",
        all.join(", ")
    );
    Ok(if worst <= 1.05 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
