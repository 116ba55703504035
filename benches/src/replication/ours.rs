//! Our servers: a maintenance machine has written the update on the first; the others get it.
//!
//! The clock runs from the moment at which the machine's last flush is acknowledged and the version
//! is sealed, sealing included, until the farm's records say that every server has all of it. The
//! traffic with etcd, and its CPU time, are counted as ours.

use super::{Counters, Run, cpu_of};
use crate::first_read::{VDISK, first_read, wait_for_job};
use crate::lan::Lan;
use crate::os_update::Pair;
use crate::real_farm::Farm;
use crate::rest::Rest;
use crate::version_kill::writer::{Request, Writer};
use anyhow::{Context, Result, ensure};
use protocol::nbd::Command;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often it is asked whether all is there.
const AGAIN: Duration = Duration::from_millis(5);
/// When what does not come counts as never.
const PATIENCE: Duration = Duration::from_secs(300);
/// Writes that are sent together.
const WRITES: usize = 64;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// What it cost.
    pub run: Run,
    /// How much of the time the sealing took.
    pub sealed: Duration,
    /// What the sender had sent when the seal ended, in bytes.
    pub sent_before: u64,
}

/// Replicates the pair's first image to `receivers` servers, then measures the second; `mbit` is
/// how fast every host may send meanwhile. `directory` is left empty.
pub fn run(
    lan: &Lan,
    program: &Path,
    directory: &Path,
    pair: &Pair,
    receivers: usize,
    mbit: Option<u32>,
) -> Result<Ours> {
    let farm = Farm::start_on(lan, receivers + 1, "", program, directory)?;
    let measured = measure(lan, &farm, pair, mbit).with_context(|| {
        let logs = farm.servers().iter().map(|server| server.last_lines());
        logs.collect::<Vec<_>>().join("\n---\n")
    });
    lan.limit(None)?;
    drop(farm);
    fs::remove_dir_all(directory)?;
    measured
}

fn measure(lan: &Lan, farm: &Farm, pair: &Pair, mbit: Option<u32>) -> Result<Ours> {
    let count = farm.servers().len();
    let (mut here, mut there) = (Rest::of(&farm.server(0).state())?, Rest::of(&farm.server(1).state())?);
    let job = here.call("POST", "/v1/vdisks", Some(&json!({"name": VDISK, "path": pair.before})))?.0;
    wait_for_job(&mut here, &job)?;
    wait_for_copies(&mut here, 1, count)?;
    write_update(&mut here, pair)?;
    let mut ids = farm.servers().iter().map(|server| server.id()).collect::<Result<Vec<u32>>>()?;
    ids.extend(farm.etcd_ids());
    lan.limit(mbit)?;
    let (cpu, counters, begun) = (cpu_of(&ids)?, Counters::begin(lan, count)?, Instant::now());
    let job = here.call("POST", &format!("/v1/vdisks/{VDISK}/versions/2/seal"), Some(&json!({})))?.0;
    wait_for_job(&mut here, &job)?;
    let (sealed, sent_before) = (begun.elapsed(), counters.end(lan)?.1);
    let (offset, expected) = sample(pair)?;
    first_read(&mut there, 2, offset, &expected)?;
    let readable = begun.elapsed();
    wait_for_copies(&mut here, 2, count)?;
    let wall = begun.elapsed();
    let (wire, upload) = counters.end(lan)?;
    let cpu = cpu_of(&ids)?.saturating_sub(cpu);
    Ok(Ours { run: Run { wall, readable, cpu, wire, upload }, sealed, sent_before })
}

/// Waits until the records say that so many servers have all of a version.
fn wait_for_copies(here: &mut Rest, version: u32, count: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let shown: Value = here.call("GET", &format!("/v1/vdisks/{VDISK}/versions/{version}"), None)?.0;
        if shown["copies"].as_array().is_some_and(|copies| copies.len() == count) {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "version {version} never came to all: {shown}");
        std::thread::sleep(AGAIN);
    }
}

/// Writes what is different as a machine does, block by block.
fn write_update(here: &mut Rest, pair: &Pair) -> Result<()> {
    here.call("POST", &format!("/v1/vdisks/{VDISK}/versions"), Some(&json!({})))?;
    let wanted = json!({"vdisk": VDISK, "version": 2, "write": true});
    let opened = here.call("POST", "/v1/sessions", Some(&wanted))?.0;
    let mut writer = Writer::open(opened["uri"].as_str().context("a session has an address")?)?;
    let after = File::open(&pair.after)?;
    for changes in pair.changes.chunks(WRITES) {
        let request = |(offset, len): &(u64, usize)| -> Result<Request> {
            let mut data = vec![0; *len];
            after.read_exact_at(&mut data, *offset)?;
            Ok(Request { command: Command::Write, offset: *offset, len: *len as u32, data })
        };
        writer.change(&changes.iter().map(request).collect::<Result<Vec<_>>>()?)?;
    }
    writer.flush()?;
    drop(writer);
    let id = opened["id"].as_str().context("a session has an id")?;
    here.call("DELETE", &format!("/v1/sessions/{id}"), None)?;
    Ok(())
}

/// A changed block and where it is: the last one.
fn sample(pair: &Pair) -> Result<(u64, Vec<u8>)> {
    let (offset, _) = *pair.changes.last().context("the update changes something")?;
    let mut expected = vec![0; 4096];
    File::open(&pair.after)?.read_exact_at(&mut expected, offset)?;
    Ok((offset, expected))
}
