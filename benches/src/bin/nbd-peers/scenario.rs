//! The loads on a warm page cache.

use crate::bars::{Bars, Figures, Verdict, judge};
use anyhow::{Result, ensure};
use comfy_table::Table;
use headwater_benches::nbd::boot_script::script;
use headwater_benches::nbd::load::{Limit, Load, Outcome, Pattern, Plan, Sending};
use headwater_benches::nbd::server::{EXPORT, Kind, MAPPED_CACHE_BYTES, Server};
use headwater_benches::nbd::usage::{self, Memory};
use std::sync::Arc;
use std::time::Duration;

/// Reads of the boot script: 100 MB of one image, by eye.
const SCRIPT_READS: usize = 6000;
/// The part of a run that is thrown away before each measurement.
const WARM_UP: Duration = Duration::from_millis(150);
/// What our server may hold beside its mapped cache.
const MEMORY_BAR: u64 = 64 << 20;
/// "Level with the best peer", less what the medians of one server differ by from run to run.
pub(crate) const LEVEL: f64 = 0.97;

/// How often and how long.
pub(crate) struct Run {
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
}

/// A load and its bars.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    plan: Plan,
    bars: Bars,
    /// Resident memory is looked at under this load.
    weighs: bool,
}

/// One measurement of one server.
#[derive(Clone, Debug)]
struct Sample {
    figures: Figures,
    memory: Memory,
}

/// All loads, on a disk of this size.
pub(crate) fn all(size_bytes: u64) -> Vec<Scenario> {
    use Sending::{OneByOne, Together};
    let batch = Bars { speed: Some(3.0), cpu: Some(1.0 / 3.0), p99: None };
    let crowd = Bars { speed: Some(2.0), cpu: Some(0.5), p99: Some(0.5) };
    let speed = |speed| Bars { speed: Some(speed), ..Bars::default() };
    let sequential = Bars { speed: Some(LEVEL), cpu: Some(0.8), p99: None };
    let boot = Pattern::Script(Arc::new(script(size_bytes, SCRIPT_READS)));
    let small = Pattern::Random(4096);
    let large = Pattern::Sequential(1 << 20);
    vec![
        scenario("4k 8x32 together", 8, 32, Together, small.clone(), batch),
        scenario("4k 1x32 together", 1, 32, Together, small.clone(), batch),
        scenario("4k 1x32 one by one", 1, 32, OneByOne, small.clone(), speed(1.8)),
        scenario("4k 1x1", 1, 1, OneByOne, small.clone(), speed(1.2)),
        scenario("4k 64x1", 64, 1, OneByOne, small, crowd),
        scenario("boot 1", 1, 1, OneByOne, boot.clone(), Bars::default()),
        scenario("boot 16", 16, 1, OneByOne, boot.clone(), crowd),
        scenario("boot 64", 64, 1, OneByOne, boot.clone(), crowd),
        Scenario { weighs: true, ..scenario("boot 128", 128, 1, OneByOne, boot, crowd) },
        scenario("1 MiB sequential 1x4", 1, 4, OneByOne, large, sequential),
    ]
}

fn scenario(
    name: &'static str,
    connections: usize,
    depth: usize,
    sending: Sending,
    pattern: Pattern,
    bars: Bars,
) -> Scenario {
    Scenario { name, plan: Plan { connections, depth, sending, pattern }, bars, weighs: false }
}

impl Scenario {
    /// Runs the load on all servers in turn, several times, and compares the medians.
    pub(crate) fn measure(&self, servers: &[Server], run: &Run) -> Result<Vec<Verdict>> {
        let mut samples = vec![Vec::new(); servers.len()];
        for round in 0..run.rounds {
            for (server, samples) in servers.iter().zip(&mut samples) {
                eprintln!("{}, round {} of {}: {}", self.name, round + 1, run.rounds, server.kind.name());
                samples.push(self.sample(server, run.length)?);
            }
        }
        let figures: Vec<(Kind, Figures)> =
            servers.iter().zip(&samples).map(|(server, samples)| (server.kind, medians(samples))).collect();
        let best = best_peer(&figures);
        print_table(self.name, &figures, best.rate);
        let mut verdicts = judge(self.name, self.bars, figures[0].1, best);
        if self.weighs {
            verdicts.push(weigh(servers, &samples));
        }
        Ok(verdicts)
    }

    fn sample(&self, server: &Server, length: Duration) -> Result<Sample> {
        let mut load = Load::connect(server.address, EXPORT, &self.plan)?;
        load.run(Limit::For(WARM_UP))?;
        let cpu_before = usage::cpu(server.pid())?;
        let outcome = load.run(Limit::For(length))?;
        let cpu = usage::cpu(server.pid())?.saturating_sub(cpu_before);
        ensure!(outcome.errors == 0, "{} answered with errors", server.kind.name());
        Ok(Sample { figures: figures(&outcome, cpu), memory: usage::memory(server.pid())? })
    }
}

/// The figures of one run.
pub(crate) fn figures(outcome: &Outcome, cpu: Duration) -> Figures {
    let seconds = outcome.elapsed.as_secs_f64();
    Figures {
        rate: outcome.requests as f64 / seconds,
        cpu: cpu.as_secs_f64() * 100_000.0 / outcome.requests.max(1) as f64,
        p50_us: outcome.latencies.quantile(500) as f64 / 1000.0,
        p99_us: outcome.latencies.quantile(990) as f64 / 1000.0,
        mb_per_s: outcome.bytes as f64 / seconds / 1e6,
    }
}

fn medians(samples: &[Sample]) -> Figures {
    let all: Vec<Figures> = samples.iter().map(|sample| sample.figures).collect();
    median_figures(&all)
}

/// The median of each figure by itself.
pub(crate) fn median_figures(all: &[Figures]) -> Figures {
    let median = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Figures {
        rate: median(|f| f.rate),
        cpu: median(|f| f.cpu),
        p50_us: median(|f| f.p50_us),
        p99_us: median(|f| f.p99_us),
        mb_per_s: median(|f| f.mb_per_s),
    }
}

/// The peer with the most requests per second.
pub(crate) fn best_peer(figures: &[(Kind, Figures)]) -> Figures {
    let peers = figures.iter().filter(|(kind, _)| *kind != Kind::Headwater).map(|(_, figures)| *figures);
    peers.max_by(|a, b| a.rate.total_cmp(&b.rate)).expect("there are peers")
}

/// Prints the figures of all servers under one load.
pub(crate) fn print_table(name: &str, figures: &[(Kind, Figures)], best_rate: f64) {
    let mut table = Table::new();
    table.set_header([name, "requests/s", "x best peer", "CPU-s/100k", "p50 us", "p99 us", "MB/s"]);
    for (kind, f) in figures {
        table.add_row([
            kind.name().to_owned(),
            format!("{:.0}", f.rate),
            format!("{:.2}", f.rate / best_rate),
            format!("{:.2}", f.cpu),
            format!("{:.0}", f.p50_us),
            format!("{:.0}", f.p99_us),
            format!("{:.0}", f.mb_per_s),
        ]);
    }
    println!("{table}\n");
}

/// Looks at resident memory under the largest crowd.
fn weigh(servers: &[Server], samples: &[Vec<Sample>]) -> Verdict {
    let mib = |bytes: u64| bytes >> 20;
    for (server, samples) in servers.iter().zip(samples) {
        let most = samples.iter().map(|sample| sample.memory).max_by_key(|memory| memory.resident);
        let memory = most.unwrap_or_default();
        let (name, resident, own) = (server.kind.name(), mib(memory.resident), mib(memory.anonymous));
        println!("{name}: {resident} MiB resident, {own} MiB of it anonymous");
    }
    println!();
    let ours = samples[0].iter().map(|sample| sample.memory);
    let (own, all) = ours.fold((0, 0), |(a, r), m| (a.max(m.anonymous), r.max(m.resident)));
    let met = own < MEMORY_BAR && all < MEMORY_BAR + MAPPED_CACHE_BYTES;
    let text = format!(
        "memory at 128 clients: {} MiB of our own and {} MiB with the mapped page cache, the bar is 64 MiB plus \
         the cache of {} MiB",
        mib(own),
        mib(all),
        mib(MAPPED_CACHE_BYTES)
    );
    Verdict { met, headline: Some(format!("{} MiB", mib(own))), text }
}
