//! Limits and windows of replication are obeyed, and bulk does not slow what devices wait for.
//!
//! Two servers in this process over a real link: TCP on the loopback interface, mutual TLS, stores
//! on disk. Counted is what the link brought. The images are noise, so nothing can be packed, and no
//! two of their chunks are the same. Each round of reads has an image of its own, for bulk at full
//! rate brings one within seconds; a round ends when little of it is missing.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use headwater_benches::linked_servers::{self, Server};
use mesh::{Policy, Priority, Slot};
use model::{CHUNK_SIZE, ChunkIndex, Root};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store::files::simulated::Numbers;
use store::{ImportOptions, Quiet};

/// 20 Mbit/s, in bytes a second.
const LIMIT: u64 = 20_000_000 / 8;
/// What may be on its way when a window closes or opens.
const SETTLE: Duration = Duration::from_secs(2);
/// The most reads of one image: they bring something too.
const READS_A_ROUND: usize = 250;
/// The most images of reads.
const MAX_ROUNDS: u64 = 16;

#[derive(Parser)]
struct Arguments {
    /// Where everything goes; needs four times the image.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// The image of each round in MiB.
    #[arg(long, default_value_t = 1280)]
    image_mib: u64,
    /// How long each of the limited windows is measured, in seconds.
    #[arg(long, default_value_t = 20)]
    window_s: u64,
    /// Idle reads, and busy ones, that are measured by turns.
    #[arg(long, default_value_t = 1000)]
    reads: usize,
}

/// What came out.
struct Figures {
    limited: f64,
    by_slot: f64,
    closed_bytes: u64,
    idle_p99: Duration,
    busy_p99: Duration,
    bulk_mib_per_s: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    fs::create_dir_all(&arguments.directory)?;
    let work = arguments.directory.join("limits.work");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let figures = measure(&arguments, &work);
    fs::remove_dir_all(&work)?;
    report(&arguments, &figures?)
}

/// Imports noise that no other `number` has.
fn import(server: &Server, work: &Path, number: u64, mib: u64) -> Result<Root> {
    let path = work.join("noise.raw");
    let mut file = BufWriter::new(File::create(&path)?);
    let mut piece = vec![0; 1 << 20];
    for place in 0..mib {
        blake3::Hasher::new().update(&(number << 32 | place).to_le_bytes()).finalize_xof().fill(&mut piece);
        file.write_all(&piece)?;
    }
    file.into_inner()?.sync_all()?;
    let options = ImportOptions { reserve_bytes: 0, ..ImportOptions::default() };
    let root = server.store.import(&*image::open(&path)?, &options, &Quiet)?.root;
    server.store.claim(&root)?;
    fs::remove_file(&path)?;
    Ok(root)
}

fn measure(arguments: &Arguments, work: &Path) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let servers = linked_servers::start(&runtime, work, 2)?;
    let mut figures = measure_limits(arguments, work, &servers)?;
    let (mut idle, mut busy, mut bulk) = (Vec::new(), Vec::new(), (0, Duration::ZERO));
    for number in 1..=MAX_ROUNDS {
        eprintln!("reads, round {number}: {} of {} are measured", busy.len(), arguments.reads);
        let left = (arguments.reads - busy.len()).min(READS_A_ROUND);
        let round = read_round(arguments, work, &servers, number, left)?;
        idle.extend(round.idle);
        busy.extend(round.busy);
        bulk = (bulk.0 + round.bulk_bytes, bulk.1 + round.bulk_time);
        if busy.len() >= arguments.reads {
            figures.bulk_mib_per_s = bulk.0 as f64 / bulk.1.as_secs_f64() / f64::from(1 << 20);
            (figures.idle_p99, figures.busy_p99) = (p99(idle), p99(busy));
            return Ok(figures);
        }
    }
    bail!("only {} reads fit in {MAX_ROUNDS} rounds: --image-mib must be larger", busy.len())
}

/// The limits and the closed window, which bring little.
fn measure_limits(arguments: &Arguments, work: &Path, servers: &[Server]) -> Result<Figures> {
    let (server, window) = (&servers[1], Duration::from_secs(arguments.window_s));
    // Twice what the limit lets through meanwhile.
    let mib = (LIMIT * (4 * arguments.window_s + 20)) >> 20;
    let root = import(&servers[0], work, 0, mib)?;
    server.puller.allow(limited());
    server.want(root, None);
    wait_for(|| server.puller.received_bytes() > 4 << 20).context("nothing comes")?;
    let limited = rate(server, window);
    server.puller.allow(Policy { slot: Slot::Limited(LIMIT), ..Policy::default() });
    std::thread::sleep(SETTLE);
    let by_slot = rate(server, window);
    server.puller.allow(closed());
    std::thread::sleep(SETTLE);
    let before = server.puller.received_bytes();
    std::thread::sleep(window);
    let closed_bytes = server.puller.received_bytes() - before;
    ensure!(!server.is_complete(root)?, "all has come before the end: the limits were not kept");
    forget(servers, root)?;
    let zero = Duration::ZERO;
    Ok(Figures { limited, by_slot, closed_bytes, idle_p99: zero, busy_p99: zero, bulk_mib_per_s: 0.0 })
}

/// What one round of reads brought.
struct Round {
    idle: Vec<Duration>,
    busy: Vec<Duration>,
    bulk_bytes: u64,
    bulk_time: Duration,
}

/// Reads of an image of its own: beside bulk at full rate until little of it is missing, and before
/// that as many while nothing else comes.
fn read_round(
    arguments: &Arguments,
    work: &Path,
    servers: &[Server],
    number: u64,
    count: usize,
) -> Result<Round> {
    let server = &servers[1];
    server.puller.allow(closed());
    let root = import(&servers[0], work, number, arguments.image_mib)?;
    server.want(root, None);
    wait_for(|| server.store.version(&root).is_ok()).context("its manifest does not come")?;
    std::thread::sleep(SETTLE);
    let mut numbers = Numbers::new(number);
    let idle = reads(server, root, count, &mut numbers)?;
    server.puller.allow(Policy::default());
    std::thread::sleep(Duration::from_millis(100));
    let (before, begun) = (server.puller.received_bytes(), Instant::now());
    let busy = reads(server, root, count, &mut numbers)?;
    let (bulk_bytes, bulk_time) = (server.puller.received_bytes() - before, begun.elapsed());
    server.puller.allow(closed());
    forget(servers, root)?;
    Ok(Round { idle, busy, bulk_bytes, bulk_time })
}

/// Deletes an image on both, so that the next one has room.
fn forget(servers: &[Server], root: Root) -> Result<()> {
    servers[1].puller.want(BTreeMap::new());
    servers.iter().try_for_each(|server| server.store.delete(&root).map(drop))?;
    Ok(())
}

fn limited() -> Policy {
    Policy { limits: BTreeMap::from([((None, Priority::Bulk), LIMIT)]), ..Policy::default() }
}

fn closed() -> Policy {
    Policy { slot: Slot::Closed, ..Policy::default() }
}

/// Bytes a second over the window, as a part of the limit.
fn rate(server: &Server, window: Duration) -> f64 {
    let (before, begun) = (server.puller.received_bytes(), Instant::now());
    std::thread::sleep(window);
    let bytes = server.puller.received_bytes() - before;
    bytes as f64 / begun.elapsed().as_secs_f64() / LIMIT as f64
}

/// How long a device waits for a chunk that is not there, again and again: `count` times, or until
/// an eighth of the image is missing.
fn reads(server: &Server, root: Root, count: usize, numbers: &mut Numbers) -> Result<Vec<Duration>> {
    let version = server.store.version(&root)?;
    let chunks = version.size().chunk_count();
    let mut took = Vec::with_capacity(count);
    while took.len() < count && version.missing_count() > chunks / 8 {
        let chunk = ChunkIndex(numbers.below(u64::from(chunks)) as u32);
        if version.is_readable(chunk) {
            continue;
        }
        let begun = Instant::now();
        server.puller.fetch(root, &[chunk])?;
        let mut bytes = vec![0; CHUNK_SIZE as usize];
        version.verify_chunk(chunk, &mut bytes)?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

fn p99(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() * 99 / 100]
}

fn wait_for(condition: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !condition() {
        ensure!(begun.elapsed() < Duration::from_secs(60), "waited for a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn report(arguments: &Arguments, figures: &Figures) -> Result<()> {
    let Figures { limited, by_slot, closed_bytes, idle_p99, busy_p99, bulk_mib_per_s } = figures;
    let part_closed = *closed_bytes as f64 / (LIMIT * arguments.window_s) as f64;
    let slower = busy_p99.as_secs_f64() / idle_p99.as_secs_f64();
    let kept = |part: f64| (0.95..=1.05).contains(&part);
    let good = kept(*limited) && kept(*by_slot) && part_closed <= 0.05 && slower <= 2.0;
    println!(
        "20 Mbit/s: {:.1} % of it as a class's limit, {:.1} % as a slot's; {closed_bytes} bytes in {} s \
         of a closed window; p99 of {} reads {:.2} ms idle, {:.2} ms beside bulk at {bulk_mib_per_s:.0} MiB/s: {slower:.2}x{}",
        limited * 100.0,
        by_slot * 100.0,
        arguments.window_s,
        arguments.reads,
        idle_p99.as_secs_f64() * 1000.0,
        busy_p99.as_secs_f64() * 1000.0,
        if good { "" } else { " - MISSED" },
    );
    ensure!(good, "a bar was missed");
    Ok(())
}
