//! Everything that breaks, while three servers work: links, servers, members of etcd, disks. What was
//! acknowledged is there in the end, on every server, and no other byte was ever served. The show's
//! form plays many faults, for longer.
//!
//! `HEADWATER_FAULTS_SEED` replays an order that a run has printed.

use anyhow::{Context, Result, ensure};
use headwater_e2e::farm::{Farm, Layout};
use headwater_e2e::faults::plan::{KINDS, Scale, plan};
use headwater_e2e::faults::play::Player;
use headwater_e2e::faults::random::Random;
use headwater_e2e::faults::workload::{Pace, Shared, Workload};
use headwater_e2e::faults::{VDISK, VDISK_MIB, converge, verdict};
use headwater_e2e::{figure, ledger};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The server whose store can be filled.
const SMALL: usize = 1;
/// A scrub is asked for and waited for.
const STORE: &str =
    "[[store]]\nname = \"default\"\npath = \"@FOLDER@/state/store\"\nscrub_rate = \"400MiB\"\n";
/// How long a farm may take to agree again, and how long on a machine that is busy with tests.
const BAR: Duration = Duration::from_secs(60);
const BUSY: Duration = Duration::from_secs(180);

/// One line of the table.
struct Row {
    fault: String,
    lasted: Duration,
    converged: Duration,
}

/// How much is played.
struct Form {
    scale: Scale,
    pace: Pace,
    small_store_mib: u32,
    limit: Duration,
}

impl Form {
    /// The tests' form, a minute, or the show's.
    fn new(shown: bool) -> Result<Self> {
        let s = Duration::from_secs;
        Ok(match shown {
            true => Self {
                scale: Scale { faults: faults_wanted()?, lasts_s: (4, 20), freeze_s: (20, 30) },
                pace: Pace { import_every: s(30), seal_every: s(30) },
                small_store_mib: 1536,
                limit: BAR,
            },
            false => Self {
                scale: Scale { faults: KINDS, lasts_s: (2, 3), freeze_s: (6, 6) },
                pace: Pace { import_every: s(10), seal_every: s(8) },
                small_store_mib: 512,
                limit: BUSY,
            },
        })
    }
}

#[test]
fn whatever_breaks_every_server_has_every_acknowledged_byte_and_serves_no_other() -> Result<()> {
    let shown = figure::is_shown();
    let (seed, form) = (seed(shown)?, Form::new(shown)?);
    println!("seed {seed}: HEADWATER_FAULTS_SEED={seed} plays the same faults again");
    let mut farm = Farm::new(Layout {
        etcd_members: 3,
        config: STORE,
        small_store: Some((SMALL, form.small_store_mib)),
        ..Layout::default()
    })?;
    let base = imported(&farm)?;
    let seats = (0..farm.count()).map(|n| farm.seat(n)).collect();
    let workload = Workload::start(seats, base, seed, form.pace);
    let shared = Arc::clone(&workload.shared);
    let mut rows = played(&mut farm, &shared, &form, seed)?;
    let (shared, writer) = workload.finish()?;
    let verdict = verdict::reach(&mut farm, &shared, writer)?;
    print_table(&rows, &shared, &verdict);
    figure::print(&line(&mut rows, &shared));
    ensure!(rows.iter().all(|row| row.converged <= form.limit), "a fault took longer than {:?}", form.limit);
    Ok(())
}

/// The disk that is written, on all servers; its content.
fn imported(farm: &Farm) -> Result<Vec<ledger::Value>> {
    let base = ledger::content((VDISK_MIB << 20) / ledger::BLOCK, 0, 5, 8);
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let image = folder.path().join("base.raw");
    std::fs::write(&image, ledger::bytes(&base))?;
    farm.cli(0, &["vdisk", "import", VDISK, image.to_str().context("a path of a test is text")?])?;
    farm.wait_until_complete(VDISK, 1, BUSY)?;
    Ok(base)
}

/// Plays all faults, and waits after each until the farm has converged.
fn played(farm: &mut Farm, shared: &Shared, form: &Form, seed: u64) -> Result<Vec<Row>> {
    let (mut rows, mut random) = (Vec::new(), Random::new(seed, 400));
    for (number, planned) in plan(seed, form.scale, SMALL).into_iter().enumerate() {
        eprintln!("{number}: {} for {:?}", planned.fault, planned.lasts);
        let began = Instant::now();
        let lying_peer = Path::new(env!("CARGO_BIN_EXE_lying-peer"));
        let mut player = Player { farm: &mut *farm, shared, small: SMALL, lying_peer, random };
        player.play(&planned).with_context(|| format!("{}\n{}", planned.fault, messages(shared)))?;
        random = player.random;
        let lasted = began.elapsed();
        let converged = converge::wait(farm, shared, number, form.limit)
            .with_context(|| format!("after {}\n{}", planned.fault, messages(shared)))?;
        eprintln!("{number}: lasted {lasted:?}, converged in {converged:?}");
        rows.push(Row { fault: planned.fault.to_string(), lasted, converged });
    }
    Ok(rows)
}

/// As the environment says; else always the same in tests, another one in each show.
fn seed(shown: bool) -> Result<u64> {
    match std::env::var("HEADWATER_FAULTS_SEED") {
        Ok(seed) => seed.parse().context("HEADWATER_FAULTS_SEED is a number"),
        Err(_) if shown => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
        Err(_) => Ok(1),
    }
}

/// How many faults the show plays.
fn faults_wanted() -> Result<usize> {
    match std::env::var("HEADWATER_FAULTS") {
        Ok(count) => count.parse().context("HEADWATER_FAULTS is a number"),
        Err(_) => Ok(40),
    }
}

fn messages(shared: &Shared) -> String {
    format!("what servers said: {:#?}", shared.messages())
}

fn print_table(rows: &[Row], shared: &Shared, verdict: &verdict::Verdict) {
    println!("{:#?}\n{verdict:#?}\n{}", shared.tally, messages(shared));
    figure::print(&format!("{:44} {:>10} {:>12}", "fault", "lasted", "converged"));
    for row in rows {
        let (lasted, converged) = (row.lasted.as_secs_f64(), row.converged.as_secs_f64());
        figure::print(&format!("{:44} {lasted:8.1} s {converged:10.1} s", row.fault));
    }
}

fn line(rows: &mut [Row], shared: &Shared) -> String {
    rows.sort_by_key(|row| row.converged);
    let seconds = |place: usize| rows[place].converged.as_secs_f64();
    let kinds: std::collections::BTreeSet<&str> =
        rows.iter().filter_map(|row| row.fault.split(':').next()).collect();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "faults: {} faults of {} kinds, {} acknowledged flushes, 0 bytes lost, 0 wrong bytes served in {:.1} GiB read, \
         converged in at most {:.1} s (median {:.1} s)",
        rows.len(),
        kinds.len(),
        count(&shared.tally.flushes),
        count(&shared.tally.read_bytes) as f64 / f64::from(1 << 30),
        seconds(rows.len() - 1),
        seconds(rows.len() / 2),
    )
}
