//! Limits and windows of replication are obeyed, and bulk does not slow what devices wait for.
//!
//! Two servers in this process over a real link: TCP on the loopback interface, mutual TLS, stores
//! on disk. Counted is what the link brought. The image is noise, so nothing can be packed, and no
//! two of its chunks are the same.

use anyhow::{Context, Result, ensure};
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

#[derive(Parser)]
struct Arguments {
    /// Where everything goes; needs three times the image.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// The image in MiB.
    #[arg(long, default_value_t = 2048)]
    image_mib: u64,
    /// How long each of the limited windows is measured, in seconds.
    #[arg(long, default_value_t = 20)]
    window_s: u64,
    /// How often idle and busy reads are measured, one after the other.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Reads in each of them.
    #[arg(long, default_value_t = 250)]
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let servers = linked_servers::start(&runtime, &work, 2)?;
    let root = import(&servers[0], &work, arguments.image_mib)?;
    let figures = measure(&arguments, &servers[1], root)?;
    drop(servers);
    drop(runtime);
    fs::remove_dir_all(&work)?;
    report(&arguments, &figures)
}

fn import(server: &Server, work: &Path, mib: u64) -> Result<Root> {
    let path = work.join("noise.raw");
    let mut file = BufWriter::new(File::create(&path)?);
    let mut piece = vec![0; 1 << 20];
    for number in 0..mib {
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut piece);
        file.write_all(&piece)?;
    }
    file.into_inner()?.sync_all()?;
    let options = ImportOptions { reserve_bytes: 0, ..ImportOptions::default() };
    let root = server.store.import(&*image::open(&path)?, &options, &Quiet)?.root;
    server.store.claim(&root)?;
    fs::remove_file(&path)?;
    Ok(root)
}

fn measure(arguments: &Arguments, server: &Server, root: Root) -> Result<Figures> {
    let window = Duration::from_secs(arguments.window_s);
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
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    let (mut bulk_bytes, mut bulk_time) = (0, Duration::ZERO);
    let mut numbers = Numbers::new(1);
    for round in 0..arguments.rounds {
        eprintln!("reads, round {} of {}", round + 1, arguments.rounds);
        idle.extend(reads(server, root, arguments.reads, &mut numbers)?);
        server.puller.allow(Policy::default());
        std::thread::sleep(Duration::from_millis(100));
        let (before, begun) = (server.puller.received_bytes(), Instant::now());
        busy.extend(reads(server, root, arguments.reads, &mut numbers)?);
        bulk_bytes += server.puller.received_bytes() - before;
        bulk_time += begun.elapsed();
        server.puller.allow(closed());
        std::thread::sleep(SETTLE);
    }
    ensure!(!server.is_complete(root)?, "all has come before the end: --image-mib must be larger");
    let bulk_mib_per_s = bulk_bytes as f64 / bulk_time.as_secs_f64() / f64::from(1 << 20);
    let (idle_p99, busy_p99) = (p99(idle), p99(busy));
    Ok(Figures { limited, by_slot, closed_bytes, idle_p99, busy_p99, bulk_mib_per_s })
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

/// How long a device waits for a chunk that is not there, again and again.
fn reads(server: &Server, root: Root, count: usize, numbers: &mut Numbers) -> Result<Vec<Duration>> {
    let version = server.store.version(&root)?;
    let chunks = u64::from(version.size().chunk_count());
    let mut took = Vec::with_capacity(count);
    while took.len() < count {
        ensure!(version.missing_count() > 0, "all has come before the end: --image-mib must be larger");
        let chunk = ChunkIndex(numbers.below(chunks) as u32);
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
        arguments.reads * arguments.rounds as usize,
        idle_p99.as_secs_f64() * 1000.0,
        busy_p99.as_secs_f64() * 1000.0,
        if good { "" } else { " - MISSED" },
    );
    ensure!(good, "a bar was missed");
    Ok(())
}
