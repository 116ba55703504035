//! NBD against its peers: our server, nbdkit file, qemu-nbd, nbd-server, on one image in the page
//! cache, interleaved in one run.
//!
//! Prints medians, ratios against the best peer of the same run and the bars; ends with one line,
//! non-zero where a bar was missed; each missed bar is named above it.

#[path = "nbd-peers/bars.rs"]
mod bars;
#[path = "nbd-peers/cold.rs"]
mod cold;
#[path = "nbd-peers/scenario.rs"]
mod scenario;
#[path = "nbd-peers/serve.rs"]
mod serve;
#[path = "nbd-peers/vanish.rs"]
mod vanish;

use anyhow::Result;
use bars::Verdict;
use clap::{Parser, Subcommand};
use headwater_benches::nbd::server::{Kind, Server, Source};
use headwater_benches::real_image;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use store::{ImportOptions, Quiet, Store};

#[derive(Parser)]
struct Arguments {
    /// Where the image and the store go; needs 8 GiB.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// How often each server runs each load.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each load lasts.
    #[arg(long, default_value_t = 2000)]
    run_ms: u64,
    /// The size of the disk in MiB.
    #[arg(long, default_value_t = 4096)]
    size_mib: u64,
    /// Only loads whose name holds this.
    #[arg(long)]
    only: Option<String>,
    /// A small disk and one short round, to see that everything runs; no bars.
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Subcommand)]
enum Child {
    /// Our server: serves the only version of a store until it is ended.
    #[command(hide = true)]
    Serve {
        /// The store.
        #[arg(long)]
        store: PathBuf,
    },
}

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::parse();
    if let Some(Child::Serve { store }) = &arguments.child {
        serve::serve(store)?;
    }
    if arguments.quick {
        (arguments.rounds, arguments.run_ms, arguments.size_mib) = (1, 100, 256);
    }
    let image = real_image::prepare(&arguments.directory, arguments.size_mib << 20)?;
    let store = import(&image, &arguments.directory, arguments.size_mib)?;
    let source = Source { image: &image, store: &store, scratch: &arguments.directory };
    let verdicts = measure(&arguments, source)?;
    Ok(conclude(&verdicts, arguments.quick))
}

fn measure(arguments: &Arguments, source: Source<'_>) -> Result<Vec<Verdict>> {
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| name.contains(only));
    let run = scenario::Run { rounds: arguments.rounds, length: Duration::from_millis(arguments.run_ms) };
    let mut verdicts = Vec::new();
    cold::warm(source)?;
    let servers = Kind::ALL.map(|kind| Server::start(kind, source));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    for scenario in scenario::all(arguments.size_mib << 20) {
        if wanted(scenario.name) {
            verdicts.extend(scenario.measure(&servers, &run)?);
        }
    }
    drop(servers);
    if wanted("cold") {
        verdicts.extend(cold::measure(source, arguments.size_mib << 20, &run)?);
    }
    if wanted("vanish") {
        verdicts.push(vanish::measure(source)?);
    }
    Ok(verdicts)
}

/// Imports the image into a store of its own, unless that was done before.
fn import(image: &Path, directory: &Path, size_mib: u64) -> Result<PathBuf> {
    let path = directory.join(format!("nbd-store-{size_mib}M"));
    let store = Store::open(&path)?;
    if store.roots().is_empty() {
        eprintln!("importing {}", image.display());
        let imported = store.import(&*image::open(image)?, &ImportOptions::default(), &Quiet)?;
        store.claim(&imported.root)?;
    }
    Ok(path)
}

/// Prints the missed bars and the last line; whether all were met.
fn conclude(verdicts: &[Verdict], quick: bool) -> ExitCode {
    let missed: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.met).collect();
    let headline: Vec<&str> = verdicts.iter().filter_map(|verdict| verdict.headline.as_deref()).collect();
    if quick {
        println!("nbd-peers --quick: {} loads ran on all servers", headline.len());
        return ExitCode::SUCCESS;
    }
    missed.iter().for_each(|verdict| println!("missed: {}", verdict.text));
    let met = verdicts.len() - missed.len();
    println!(
        "nbd-peers: {met} of {} bars met; against the best peer: {}",
        verdicts.len(),
        headline.join(", ")
    );
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
