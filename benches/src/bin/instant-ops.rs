//! Promote, revert, branch and merge on a sparse vDisk of 1 TiB, through the REST API of a real
//! server: each must answer in under 50 ms and move no data.
//!
//! What is moved is what the server's process wrote to disk while the calls were answered, without
//! the farm's own records. The local rebuild that a merge leaves for later is counted by itself.
//!
//! Each of these calls syncs a few pages once. Beside it all, a probe syncs 4 KiB to the same disk
//! again and again: a call in which the disk kept the probe waiting too is shown, and not held
//! against the bar. The probe's own longest sync is printed.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use comfy_table::Table;
use headwater_benches::child::median;
use headwater_benches::disk_probe::DiskProbe;
use headwater_benches::real_server::{Server, beside_this_program};
use headwater_benches::rest::Rest;
use headwater_benches::version_kill::writer::{Request, Writer};
use protocol::nbd::Command;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The bar.
const BAR: Duration = Duration::from_millis(50);
/// A bare sync of 4 KiB that takes longer than this: the disk stood still.
const STALL: Duration = Duration::from_millis(25);
/// A commit of the farm's database writes a few pages, and again at a checkpoint of its log.
const RECORDS_BYTES: u64 = 1 << 20;
/// What each version changes: scattered blocks of 64 KiB.
const CHANGED_CHUNKS: u64 = 64;

#[derive(Parser)]
struct Arguments {
    /// Where the server keeps its files.
    #[arg(long, default_value = "target/bench/instant-ops")]
    directory: PathBuf,
    /// The server's program [default: headwater beside this one].
    #[arg(long)]
    headwater: Option<PathBuf>,
    /// How often each is done.
    #[arg(long, default_value_t = 30)]
    rounds: u64,
    /// The size of the disk in GiB.
    #[arg(long, default_value_t = 1024)]
    size_gib: u64,
}

/// What the calls of one kind took and wrote.
#[derive(Default)]
struct Calls {
    from_to: Vec<(Instant, Instant)>,
    written_bytes: u64,
}

struct Bench {
    server: Server,
    rest: Rest,
    size_bytes: u64,
    calls: BTreeMap<&'static str, Calls>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = arguments.headwater.clone().map_or_else(beside_this_program, Ok)?;
    let server = Server::new(&program, &arguments.directory)?;
    server.start()?;
    let size_bytes = arguments.size_gib << 30;
    let import = import(&arguments, &server, size_bytes)?;
    let rest = Rest::of(&server.state())?;
    let probe = DiskProbe::start(&arguments.directory)?;
    let mut bench = Bench { server, rest, size_bytes, calls: BTreeMap::new() };
    for round in 0..arguments.rounds {
        bench.round(round).with_context(|| format!("round {round}"))?;
    }
    let Bench { calls, server, .. } = bench;
    drop(server);
    fs::remove_dir_all(&arguments.directory)?;
    report(arguments.size_gib, import, &calls, &probe)
}

/// Imports a disk of this size with a little data at its beginning and end.
fn import(arguments: &Arguments, server: &Server, size_bytes: u64) -> Result<Duration> {
    let path = arguments.directory.join("disk.raw");
    let file = fs::File::create(&path)?;
    file.set_len(size_bytes)?;
    for offset in [0, size_bytes - (16 << 20)] {
        file.write_all_at(&vec![7; 16 << 20], offset)?;
    }
    let begun = Instant::now();
    server.run(&["vdisk", "import", "big", "disk.raw"])?;
    Ok(begun.elapsed())
}

impl Bench {
    fn round(&mut self, round: u64) -> Result<()> {
        let before = self.production()?;
        let number = self.call("create", "/v1/vdisks/big/versions", &json!({}))?["number"]
            .as_u64()
            .context("a created version has a number")?;
        self.change(number, round)?;
        self.server.run(&["version", "seal", "big", &number.to_string()])?;
        let of = |verb: &str| format!("/v1/vdisks/big/versions/{number}/{verb}");
        let sealed = self.rest.call("GET", of("").trim_end_matches('/'), None)?.0;
        let promote = |to: &str| json!({"to": to, "root": sealed["root"], "production": before});
        self.call("promote to test", &of("promote"), &promote("test"))?;
        self.call("promote to production", &of("promote"), &promote("production"))?;
        let path = format!("/v1/vdisks/big/versions/{before}/revert");
        self.call("revert", &path, &json!({"production": number}))?;
        self.call("promote to production", &of("promote"), &promote("production"))?;
        self.call("branch", &of("branch"), &json!({"name": format!("branch-{round}")}))?;
        self.call("merge", &of("merge"), &Value::Null)?;
        self.wait_for_jobs()
    }

    /// Writes to scattered chunks of the draft.
    fn change(&mut self, number: u64, round: u64) -> Result<()> {
        let words = ["session", "create", "big", "--version", &number.to_string(), "--write"];
        let opened = self.server.json(&words)?;
        let mut writer = Writer::open(opened["uri"].as_str().context("a session has an address")?)?;
        let stride = self.size_bytes / CHANGED_CHUNKS;
        let request = |chunk: u64| {
            let offset = chunk * stride + (round << 16) % stride;
            Request { command: Command::Write, offset, len: 1 << 16, data: vec![round as u8 | 1; 1 << 16] }
        };
        for chunk in 0..CHANGED_CHUNKS {
            writer.change(&[request(chunk)])?;
        }
        writer.flush()?;
        drop(writer);
        self.server.run(&["session", "close", opened["id"].as_str().context("a session has an id")?])?;
        Ok(())
    }

    fn production(&mut self) -> Result<u64> {
        let vdisk = self.rest.call("GET", "/v1/vdisks/big/versions", None)?.0;
        let versions = vdisk.as_array().context("a list of versions")?;
        let found = versions.iter().find(|version| version["in_production"] == true);
        found.and_then(|version| version["number"].as_u64()).context("a version is in production")
    }

    fn call(&mut self, name: &'static str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { &json!({}) } else { body };
        let before = self.server.written_bytes()?;
        let begun = Instant::now();
        let (answer, took) = self.rest.call("POST", path, Some(body))?;
        let calls = self.calls.entry(name).or_default();
        calls.from_to.push((begun, begun + took));
        calls.written_bytes = calls.written_bytes.max(self.server.written_bytes()? - before);
        Ok(answer)
    }

    /// Lets a merge's local rebuild end, so that it is not counted for the next call.
    fn wait_for_jobs(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let jobs = self.rest.call("GET", "/v1/jobs", None)?.0;
            let running =
                jobs.as_array().context("a list of jobs")?.iter().any(|job| job["state"] == "running");
            if !running {
                return Ok(());
            }
            ensure!(begun.elapsed() < Duration::from_secs(120), "a job does not end: {jobs}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn report(
    size_gib: u64,
    import: Duration,
    calls: &BTreeMap<&'static str, Calls>,
    probe: &DiskProbe,
) -> Result<()> {
    let mut table = Table::new();
    let names =
        ["on a vDisk of 1 TiB", "calls", "median ms", "longest ms", "while the disk answered", "KiB written"];
    table.set_header(names);
    let milliseconds = |took: Duration| format!("{:.1}", took.as_secs_f64() * 1000.0);
    let (mut worst, mut written, mut stalled) = (Duration::ZERO, 0, Vec::new());
    for (name, Calls { from_to, written_bytes }) in calls {
        let took: Vec<Duration> = from_to.iter().map(|(from, to)| *to - *from).collect();
        let beside = |(from, to): &(Instant, Instant)| probe.longest_between(*from, *to);
        let (calm, still): (Vec<_>, Vec<_>) = from_to.iter().partition(|call| beside(call) < STALL);
        let longest = calm.iter().map(|(from, to)| *to - *from).max().unwrap_or_default();
        stalled.extend(still.iter().map(|(from, to)| *to - *from).filter(|took| *took >= BAR));
        table.add_row([
            (*name).to_owned(),
            took.len().to_string(),
            milliseconds(median(&took)),
            milliseconds(took.iter().max().copied().unwrap_or_default()),
            milliseconds(longest),
            (written_bytes >> 10).to_string(),
        ]);
        worst = worst.max(longest);
        written = written.max(*written_bytes);
    }
    println!("{table}\nimport of {size_gib} GiB with 32 MiB of data: {:.1} s", import.as_secs_f64());
    let all: Vec<_> = calls.values().flat_map(|calls| &calls.from_to).collect();
    let (first, last) = (all.iter().map(|call| call.0).min(), all.iter().map(|call| call.1).max());
    let (first, last) = first.zip(last).context("there were calls")?;
    println!(
        "instant-ops: the longest of {} calls took {} ms (bar: 50), {} more were longer while a bare sync of \
         4 KiB to the same disk took over {} ms as well (at most {} ms); at most {} KiB written by one",
        all.len(),
        milliseconds(worst),
        stalled.len(),
        STALL.as_millis(),
        milliseconds(probe.longest_between(first, last)),
        written >> 10
    );
    ensure!(stalled.len() * 20 <= all.len(), "the disk stood still too often for a measurement");
    ensure!(worst < BAR, "a call took longer than {} ms", BAR.as_millis());
    ensure!(written <= RECORDS_BYTES, "a call wrote {written} bytes: more than records");
    Ok(())
}
