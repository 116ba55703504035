//! A new version brought to other machines: by our servers, and by the tools that others use.
//!
//! Each contender runs with its ends on hosts of their own ([`crate::lan`]); what passed their
//! cards, the time until every receiver has all of it on its disk, and the CPU time of all its
//! processes are what one run says ([`Run`]).

pub mod bars;
mod casync;
pub mod files;
pub mod ours;
pub mod syncthing;

use crate::lan::{Lan, Traffic};
use anyhow::{Context, Result};
use std::time::Duration;

/// What one run cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Until every receiver has all of it, durable.
    pub wall: Duration,
    /// Until the new version could be read on a receiver.
    pub readable: Duration,
    /// CPU time of all processes at all ends.
    pub cpu: Duration,
    /// What all hosts together sent, in bytes.
    pub wire: u64,
    /// What the sender sent, in bytes.
    pub upload: u64,
}

/// The counters of the first hosts, before and after.
struct Counters {
    before: Vec<Traffic>,
}

impl Counters {
    fn begin(lan: &Lan, hosts: usize) -> Result<Self> {
        Ok(Self { before: (0..hosts).map(|host| lan.traffic(host)).collect::<Result<_>>()? })
    }

    /// What all sent, and what the first one sent.
    fn end(&self, lan: &Lan) -> Result<(u64, u64)> {
        let sent =
            self.before.iter().enumerate().map(|(host, before)| Ok(lan.traffic(host)?.since(*before).sent));
        let sent: Vec<u64> = sent.collect::<Result<_>>()?;
        Ok((sent.iter().sum(), sent[0]))
    }
}

/// The CPU time of living processes and their ended children, in steps of 10 ms (proc(5),
/// /proc/PID/stat fields 14 to 17).
fn cpu_of(ids: &[u32]) -> Result<Duration> {
    let mut ticks = 0;
    for id in ids {
        let stat =
            std::fs::read_to_string(format!("/proc/{id}/stat")).context("a measured process is gone")?;
        // The second field, the program's name, may hold spaces; it ends with the last parenthesis.
        let after_name = stat.rsplit_once(')').context("a stat file without a name")?.1;
        let fields: Vec<u64> =
            after_name.split_whitespace().skip(11).take(4).filter_map(|n| n.parse().ok()).collect();
        ticks += fields.iter().sum::<u64>();
    }
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}
