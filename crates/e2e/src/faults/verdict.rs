//! The end: what every server has is held against what was acknowledged.

use super::VDISK;
use super::converge::is_everywhere;
use super::workload::{Shared, Version};
use super::writer::Writer;
use crate::farm::Farm;
use crate::ledger::{self, Value};
use anyhow::{Context, Result, bail, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the last version may take to be sealed, and everything to reach every server.
const LIMIT: Duration = Duration::from_secs(120);

/// What was compared.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Versions, each whole on each server.
    pub versions: usize,
    /// Bytes that were exported and compared.
    pub bytes: u64,
}

/// Seals what was written last, waits until everything is everywhere, compares every byte of every
/// version on every server, and verifies the stores, for which the servers are ended.
pub fn reach(farm: &mut Farm, shared: &Shared, mut writer: Writer) -> Result<Verdict> {
    until("the last version is sealed and promoted", || writer.end().map(|_| true))
        .with_context(|| farm.logs())?;
    let mut versions: Vec<(Version, Arc<Vec<Value>>)> =
        shared.truth().iter().map(|(version, content)| (version.clone(), Arc::clone(content))).collect();
    // What nobody heard the end of is there whole, or not at all.
    for (version, content) in shared.unknown().iter() {
        if shared.seats[0].cli(&["vdisk", "show", &version.0]).is_ok() {
            versions.push((version.clone(), Arc::clone(content)));
        }
    }
    let mut bytes = 0;
    for n in 0..farm.count() {
        for (version, content) in &versions {
            until(&format!("all of {version:?} on all servers"), || is_everywhere(farm, shared, n, version))
                .with_context(|| farm.logs())?;
            bytes += compare(farm, n, version, content)?;
        }
        let orphans = farm.json(n, &["version", "orphans", VDISK])?;
        ensure!(orphans.as_array().is_none_or(Vec::is_empty), "nobody discarded anything: {orphans}");
    }
    for n in 0..farm.count() {
        farm.kill(n)?;
        farm.check_store(n)?;
    }
    Ok(Verdict { versions: versions.len(), bytes })
}

/// Compares a whole export on a server; how many bytes that were.
fn compare(farm: &Farm, n: usize, version: &Version, content: &[Value]) -> Result<u64> {
    let folder = tempfile::Builder::new().prefix("headwater-e2e-export-").tempdir_in("/var/tmp")?;
    let file = folder.path().join("export.raw");
    let (path, number) = (file.display().to_string(), version.1.to_string());
    farm.cli(n, &["vdisk", "export", &version.0, &path, "--version", &number])?;
    let bytes = std::fs::read(&file)?;
    ensure!(bytes.len() == content.len() * ledger::BLOCK, "{version:?} has another size on {}", farm.name(n));
    ledger::compare(content, 0, &bytes).with_context(|| format!("{version:?} on {}", farm.name(n)))?;
    Ok(bytes.len() as u64)
}

fn until(what: &str, mut met: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + LIMIT;
    loop {
        let last = met();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("never came: {what} ({last:?})");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
