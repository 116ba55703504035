//! The loads, the contestants in turn, and what came of it.

use super::make::{DEPTH, Made};
use super::serve::deepest;
use anyhow::{Context, Result, ensure};
use comfy_table::{Table, presets};
use disk::{BlockIo, MappedCache, VersionDisk};
use headwater_benches::nbd::boot_script::Numbers;
use headwater_benches::nbd::load::{self, Limit, Load, Pattern, Plan, Sending};
use headwater_benches::nbd::server::MAPPED_CACHE_BYTES;
use headwater_benches::nbd::usage;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use store::Store;

const EXPORT: &str = "disk";
const RANDOM_BYTES: u32 = 4 << 10;
const SEQUENTIAL_BYTES: u32 = 1 << 20;
/// How long a server may take to start.
const START_UP: Duration = Duration::from_secs(10);

/// How much is measured.
pub(crate) struct Run {
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
}

/// What a contestant did in one round: seconds and CPU seconds for a request.
#[derive(Clone, Copy)]
struct Cost {
    elapsed: f64,
    cpu: f64,
}

/// One contestant and its costs, by load.
struct Contestant {
    name: String,
    source: Source,
    costs: [Vec<Cost>; 2],
}

enum Source {
    /// In this process, by one thread.
    Disk(Box<VersionDisk>),
    /// A server of its own.
    Server { process: Process, address: SocketAddr },
}

/// A child that is ended with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LOADS: [(&str, u32); 2] = [("random 4 KiB", RANDOM_BYTES), ("sequential 1 MiB", SEQUENTIAL_BYTES)];

/// Measures everything, prints the table; answers the cost of fifty versions in terms of one.
pub(crate) fn measure(made: &Made, run: &Run) -> Result<Vec<(String, f64)>> {
    let mut contestants = contestants(made)?;
    contestants.iter().try_for_each(|contestant| contestant.warm())?;
    for _ in 0..run.rounds {
        for (number, (_, len)) in LOADS.iter().enumerate() {
            for contestant in &mut contestants {
                let cost = contestant.run(*len, run.length)?;
                contestant.costs[number].push(cost);
            }
        }
    }
    print(&contestants);
    let mut ratios = Vec::new();
    for (number, (load, _)) in LOADS.iter().enumerate() {
        for (what, one, fifty) in [("disk", 0, 1), ("server", 2, 3)] {
            let (one, fifty) = (&contestants[one].costs[number], &contestants[fifty].costs[number]);
            ratios.push((format!("{what} {load} time"), ratio(one, fifty, |cost| cost.elapsed)));
            ratios.push((format!("{what} {load} CPU"), ratio(one, fifty, |cost| cost.cpu)));
        }
    }
    Ok(ratios)
}

/// The median of the ratios of neighbouring runs: what disturbed both does not count.
fn ratio(one: &[Cost], fifty: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    median(one.iter().zip(fifty).map(|(one, fifty)| of(fifty) / of(one)).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One and fifty versions as a disk, then as a server, then the chains of qcow2.
fn contestants(made: &Made) -> Result<Vec<Contestant>> {
    let mut all = Vec::new();
    for (path, depth) in [(&made.flat, 1), (&made.deep, DEPTH)] {
        let store = Store::open(path)?;
        let disk = VersionDisk::open(deepest(&store)?, &MappedCache::new(MAPPED_CACHE_BYTES))?;
        all.push(Contestant::new(format!("disk, {depth} versions"), Source::Disk(Box::new(disk))));
    }
    for (path, depth) in [(&made.flat, 1), (&made.deep, DEPTH)] {
        all.push(Contestant::new(format!("server, {depth} versions"), ours(path)?));
    }
    for (depth, path) in &made.qcow2 {
        all.push(Contestant::new(format!("qemu-nbd, chain of {depth}"), qemu(path)?));
    }
    Ok(all)
}

impl Contestant {
    fn new(name: String, source: Source) -> Self {
        Self { name, source, costs: [Vec::new(), Vec::new()] }
    }

    /// Reads everything once, so that the page cache has it.
    fn warm(&self) -> Result<()> {
        match &self.source {
            Source::Disk(disk) => {
                let mut buffer = vec![0; SEQUENTIAL_BYTES as usize];
                let size = disk.geometry().size_bytes;
                (0..size / u64::from(SEQUENTIAL_BYTES))
                    .try_for_each(|at| disk.read_at(at * u64::from(SEQUENTIAL_BYTES), &mut buffer))?;
            }
            Source::Server { address, .. } => {
                let (_, size) = load::open(*address, EXPORT)?;
                let reads = Limit::Each(size / u64::from(SEQUENTIAL_BYTES));
                Load::connect(*address, EXPORT, &plan(SEQUENTIAL_BYTES))?.run(reads)?;
            }
        }
        Ok(())
    }

    fn run(&self, len: u32, length: Duration) -> Result<Cost> {
        match &self.source {
            Source::Disk(disk) => read_disk(disk, len, length),
            Source::Server { process, address } => {
                let mut load = Load::connect(*address, EXPORT, &plan(len))?;
                let before = usage::cpu(process.0.id())?;
                let outcome = load.run(Limit::For(length))?;
                let cpu = usage::cpu(process.0.id())?.saturating_sub(before).as_secs_f64();
                ensure!(
                    outcome.errors == 0 && outcome.requests > 0,
                    "{}: {} errors",
                    self.name,
                    outcome.errors
                );
                let requests = outcome.requests as f64;
                Ok(Cost { elapsed: outcome.elapsed.as_secs_f64() / requests, cpu: cpu / requests })
            }
        }
    }
}

fn plan(len: u32) -> Plan {
    let (connections, depth, pattern) = match len {
        RANDOM_BYTES => (1, 32, Pattern::Random(len)),
        _ => (1, 4, Pattern::Sequential(len)),
    };
    Plan { connections, depth, sending: Sending::Together, pattern }
}

/// Reads for so long on this thread.
fn read_disk(disk: &VersionDisk, len: u32, length: Duration) -> Result<Cost> {
    let size = disk.geometry().size_bytes / u64::from(len);
    let (mut numbers, mut buffer) = (Numbers::new(11), vec![0; len as usize]);
    let (begun, cpu, mut reads) = (Instant::now(), thread_cpu(), 0u64);
    while begun.elapsed() < length {
        for _ in 0..64 {
            let at = if len == RANDOM_BYTES { numbers.below(size) } else { reads % size };
            disk.read_at(at * u64::from(len), &mut buffer)?;
            reads += 1;
        }
    }
    let (elapsed, cpu) = (begun.elapsed().as_secs_f64(), thread_cpu().saturating_sub(cpu).as_secs_f64());
    Ok(Cost { elapsed: elapsed / reads as f64, cpu: cpu / reads as f64 })
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn ours(store: &Path) -> Result<Source> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.arg("serve").arg("--store").arg(store).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("our server has no output")?;
    let process = Process(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let address = line.trim().parse().with_context(|| format!("our server said {line:?}"))?;
    Ok(Source::Server { process, address })
}

fn qemu(image: &Path) -> Result<Source> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut command = Command::new("qemu-nbd");
    command.args(["-r", "-t", "-f", "qcow2", "-x", EXPORT, "-b", "127.0.0.1"]);
    command.args(["-p", &address.port().to_string(), "--cache", "writeback"]).arg(image);
    let child = command.spawn().context("cannot start qemu-nbd: is qemu-utils installed?")?;
    let process = Process(child);
    let end = Instant::now() + START_UP;
    while load::open(address, EXPORT).is_err() {
        ensure!(Instant::now() < end, "qemu-nbd does not serve {}", image.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Source::Server { process, address })
}

fn print(contestants: &[Contestant]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "random 4 KiB/s", "CPU us each", "sequential MiB/s", "CPU us each"]);
    for contestant in contestants {
        let [random, sequential] = &contestant.costs;
        let elapsed = |costs: &[Cost]| median(costs.iter().map(|cost| cost.elapsed).collect());
        let cpu = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu).collect());
        table.add_row([
            contestant.name.clone(),
            format!("{:.0}", 1.0 / elapsed(random)),
            format!("{:.2}", cpu(random) * 1e6),
            format!("{:.0}", 1.0 / elapsed(sequential)),
            format!("{:.1}", cpu(sequential) * 1e6),
        ]);
    }
    println!("{table}");
}
