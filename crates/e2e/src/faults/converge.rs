//! How long the farm takes to agree again after a fault: servers are connected, all of them have all
//! of what was acknowledged, what is new reaches everybody, and devices write and read everywhere.

use super::importer;
use super::workload::{Shared, Version};
use crate::farm::Farm;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Epochs of what is imported to be seen arriving.
const PROBE_EPOCH: u64 = 1 << 48;

/// Waits until the farm has converged, and answers how long that took. A small vDisk is imported on
/// server `number` modulo their count, and must reach all.
pub fn wait(farm: &Farm, shared: &Shared, number: usize, limit: Duration) -> Result<Duration> {
    let mended = Instant::now();
    let mut first = vec![probe(farm, shared, number)];
    first.extend(works(farm, shared, mended + LOOK_EVERY));
    all_met(first, shared, mended, limit).with_context(|| farm.logs())?;
    let complete = (0..farm.count()).flat_map(|n| everywhere(farm, shared, n)).collect();
    all_met(complete, shared, mended, limit).with_context(|| farm.logs())?;
    Ok(mended.elapsed())
}

/// What is waited for, in words, and whether it is so.
type Condition<'a> = (String, Box<dyn FnMut() -> Result<bool> + 'a>);

/// A small vDisk is imported; a second try finds that the first one was made after all.
fn probe<'a>(farm: &'a Farm, shared: &'a Shared, number: usize) -> Condition<'a> {
    let (name, n, epoch) = (format!("probe-{number:03}"), number % farm.count(), PROBE_EPOCH + number as u64);
    let imported = move || {
        if importer::import(shared, n, &name, epoch).is_ok() {
            return Ok(true);
        }
        was_imported(shared, n, &name)
    };
    (format!("import of probe {number}"), Box::new(imported))
}

/// Devices write and read on every server, and servers are connected.
fn works<'a>(farm: &'a Farm, shared: &'a Shared, since: Instant) -> Vec<Condition<'a>> {
    let mut all: Vec<Condition<'_>> = Vec::new();
    all.push(("acknowledged flush".to_owned(), Box::new(move || Ok(shared.last().flush > since))));
    for n in 0..farm.count() {
        let name = farm.name(n);
        let has_read = move || Ok(shared.last().reads[n] > since);
        all.push((format!("read on {name}"), Box::new(has_read)));
        all.push((format!("links of {name}"), Box::new(move || is_connected(farm, shared, n))));
    }
    all
}

/// The newest versions are on all servers, as server `n` knows.
fn everywhere<'a>(farm: &'a Farm, shared: &'a Shared, n: usize) -> Vec<Condition<'a>> {
    let mut all: Vec<Condition<'_>> = Vec::new();
    for version in newest(shared) {
        let what = format!("copies of version {} of {}, as {} knows", version.1, version.0, farm.name(n));
        all.push((what, Box::new(move || is_everywhere(farm, shared, n, &version))));
    }
    all
}

/// Looks at conditions until each was met once.
fn all_met(mut open: Vec<Condition<'_>>, shared: &Shared, began: Instant, limit: Duration) -> Result<()> {
    while !open.is_empty() {
        shared.is_right()?;
        let mut last = String::new();
        open.retain_mut(|(_, condition)| match condition() {
            Ok(met) => !met,
            Err(error) => {
                last = format!("{error:#}");
                true
            }
        });
        if !open.is_empty() && began.elapsed() > limit {
            let missing: Vec<&str> = open.iter().map(|(what, _)| what.as_str()).collect();
            bail!("not converged after {limit:?}: no {}; {last}", missing.join(", no "));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Whether an import was made whose end nobody told.
fn was_imported(shared: &Shared, n: usize, name: &str) -> Result<bool> {
    let version = (name.to_owned(), 1);
    let known = shared.seats[n].cli(&["vdisk", "show", name]).is_ok();
    let content = shared.unknown().get(&version).cloned();
    if let (true, Some(content)) = (known, content) {
        shared.is_true(version, content.to_vec());
        return Ok(true);
    }
    Ok(false)
}

fn is_connected(farm: &Farm, shared: &Shared, n: usize) -> Result<bool> {
    let status = shared.seats[n].json(&["replication", "status"])?;
    Ok(status[0]["peers"].as_array().map_or(0, Vec::len) + 1 == farm.count())
}

/// The newest version of what is written, and the newest two imports.
fn newest(shared: &Shared) -> Vec<Version> {
    let truth = shared.truth();
    let written = truth.keys().rfind(|(vdisk, _)| vdisk == super::VDISK);
    let probes = truth.keys().rfind(|(vdisk, _)| vdisk.starts_with("probe"));
    let small = truth.keys().rfind(|(vdisk, _)| vdisk.starts_with("small"));
    [written, probes, small].into_iter().flatten().cloned().collect()
}

/// Whether server `n` knows that all servers have all of a version.
pub(super) fn is_everywhere(farm: &Farm, shared: &Shared, n: usize, version: &Version) -> Result<bool> {
    let shown = shared.seats[n].json(&["version", "show", &version.0, &version.1.to_string()])?;
    let copies: BTreeSet<&str> =
        shown["copies"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    Ok((0..farm.count()).all(|server| copies.contains(farm.name(server))))
}
