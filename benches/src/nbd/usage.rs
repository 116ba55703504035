//! What a server uses: CPU time and resident memory of its process and its children.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// All of it (VmRSS); pages of mapped files count.
    pub resident: u64,
    /// What belongs to the process alone (RssAnon).
    pub anonymous: u64,
}

/// The time that all living threads of a process and its descendants have run so far.
///
/// From the scheduler's own count (`/proc/PID/task/TID/schedstat`, nanoseconds): a server with a
/// process for each client would lose up to a tick of 10 ms for each of them in `stat`.
pub fn cpu(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for pid in family(pid)? {
        // A child may end meanwhile: what it did then belongs to no measurement.
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads {
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let ran = text.split_whitespace().next().context("an empty schedstat")?;
            nanoseconds += ran.parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The memory of a process and its living descendants.
pub fn memory(pid: u32) -> Result<Memory> {
    let mut memory = Memory::default();
    for pid in family(pid)? {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        memory.resident += kib(&status, "VmRSS:") * 1024;
        memory.anonymous += kib(&status, "RssAnon:") * 1024;
    }
    Ok(memory)
}

fn kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A process and its living descendants.
pub(crate) fn family(root: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = number(&after_name(&stat)?, 4)? as u32;
        children.entry(parent).or_default().push(pid);
    }
    let (mut all, mut next) = (vec![root], 0);
    while next < all.len() {
        all.extend(children.remove(&all[next]).unwrap_or_default());
        next += 1;
    }
    Ok(all)
}

/// The fields from the third on; the second, the name, may hold spaces.
fn after_name(stat: &str) -> Result<Vec<&str>> {
    let rest = stat.rsplit_once(')').context("a stat file without a name")?.1;
    Ok(rest.split_whitespace().collect())
}

fn number(fields: &[&str], field: usize) -> Result<u64> {
    Ok(fields.get(field - 3).context("a short stat file")?.parse()?)
}
