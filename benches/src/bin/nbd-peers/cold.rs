//! The boot mix right after the page cache was dropped.
//!
//! Each server is started anew, so that no mapping of its keeps pages in memory, and each client
//! goes through the whole script once: the first to come waits for the disk.

use crate::bars::{Bars, Figures, Verdict, judge};
use crate::scenario::{LEVEL, Run, best_peer, figures, median_figures, print_table};
use anyhow::{Result, ensure};
use headwater_benches::nbd::boot_script::script;
use headwater_benches::nbd::load::{Limit, Load, Pattern, Plan, Sending};
use headwater_benches::nbd::server::{EXPORT, Kind, Server, Source};
use headwater_benches::nbd::usage;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

const NAME: &str = "boot 16 cold";
const CLIENTS: usize = 16;
/// Reads of the script: 340 MB, so that the disk counts.
const SCRIPT_READS: usize = 20_000;

/// Brings the image and the store into memory.
pub(crate) fn warm(source: Source<'_>) -> Result<()> {
    for file in files(source)? {
        std::io::copy(&mut File::open(file)?, &mut std::io::sink())?;
    }
    Ok(())
}

/// Measures all servers in turn.
pub(crate) fn measure(source: Source<'_>, size_bytes: u64, run: &Run) -> Result<Vec<Verdict>> {
    let pattern = Pattern::Script(Arc::new(script(size_bytes, SCRIPT_READS)));
    let plan = Plan { connections: CLIENTS, depth: 1, sending: Sending::OneByOne, pattern };
    let mut samples: Vec<(Kind, Vec<Figures>)> = Kind::ALL.map(|kind| (kind, Vec::new())).into();
    for round in 0..run.rounds {
        for (kind, samples) in &mut samples {
            eprintln!("{NAME}, round {} of {}: {}", round + 1, run.rounds, kind.name());
            samples.push(sample(*kind, source, &plan)?);
        }
    }
    let figures: Vec<(Kind, Figures)> =
        samples.iter().map(|(kind, samples)| (*kind, median_figures(samples))).collect();
    let best = best_peer(&figures);
    print_table(NAME, &figures, best.rate);
    let bars = Bars { speed: Some(LEVEL), ..Bars::default() };
    Ok(judge(NAME, bars, figures[0].1, best))
}

fn sample(kind: Kind, source: Source<'_>, plan: &Plan) -> Result<Figures> {
    drop_cached(source)?;
    let server = Server::start(kind, source)?;
    let mut load = Load::connect(server.address, EXPORT, plan)?;
    let cpu_before = usage::cpu(server.pid())?;
    let outcome = load.run(Limit::Each(SCRIPT_READS as u64))?;
    let cpu = usage::cpu(server.pid())?.saturating_sub(cpu_before);
    ensure!(outcome.errors == 0, "{} answered with errors", kind.name());
    Ok(figures(&outcome, cpu))
}

/// Takes the image and the store out of the page cache; other files keep their pages.
fn drop_cached(source: Source<'_>) -> Result<()> {
    for path in files(source)? {
        let file = File::open(path)?;
        file.sync_all()?; // dirty pages would stay
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

fn files(source: Source<'_>) -> Result<Vec<std::path::PathBuf>> {
    let mut files = vec![source.image.to_owned()];
    collect(source.store, &mut files)?;
    Ok(files)
}

fn collect(directory: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}
