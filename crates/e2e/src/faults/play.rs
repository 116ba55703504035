//! Breaks something, waits, and mends it.

use super::flip;
use super::importer;
use super::plan::{Fault, Planned};
use super::random::Random;
use super::workload::Shared;
use crate::farm::Farm;
use crate::seat::text;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long damaged bytes may take to be found by a scrub that was asked for, and to come from
/// another server.
const REPAIR: Duration = Duration::from_secs(90);
/// Longer than a server believes that a chunk is in memory.
const OUT_OF_MEMORY: Duration = Duration::from_secs(1);
/// Flips of one fault.
const FLIPS: usize = 8;
const FULL_EPOCH: u64 = 1 << 40;
const LIE_EPOCH: u64 = 1 << 44;

/// What plays faults.
#[derive(Debug)]
pub struct Player<'a> {
    /// The farm that is broken.
    pub farm: &'a mut Farm,
    /// Who works on it.
    pub shared: &'a Shared,
    /// The server whose store has a file system of its own.
    pub small: usize,
    /// The program that lies in a server's place.
    pub lying_peer: &'a Path,
    /// For what the plan leaves open.
    pub random: Random,
}

impl Player<'_> {
    /// Plays one fault to its end; afterwards nothing is broken.
    pub fn play(&mut self, planned: &Planned) -> Result<()> {
        let lasts = planned.lasts;
        match planned.fault {
            Fault::CutOneWay { from, to } => {
                self.farm.cut(from, to)?;
                self.hold(lasts)?;
                self.farm.mend()
            }
            Fault::CutServers { one, other } => {
                self.farm.cut_both(self.farm.host(one), self.farm.host(other))?;
                self.hold(lasts)?;
                self.farm.mend()
            }
            Fault::CutDatabase { server, member } => {
                for n in (0..self.farm.etcd.count()).filter(|n| member.is_none_or(|member| member == *n)) {
                    self.farm.cut_both(self.farm.host(server), self.farm.etcd.host(n))?;
                }
                self.hold(lasts)?;
                self.farm.mend()
            }
            Fault::Freeze { server } => {
                self.farm.freeze(server)?;
                let held = self.hold(lasts);
                self.farm.thaw(server)?;
                held
            }
            Fault::KillServer { server } => {
                self.farm.kill(server)?;
                self.hold(lasts)?;
                self.farm.start(server)
            }
            Fault::KillMember { member } => {
                self.farm.etcd.kill_member(member)?;
                self.hold(lasts)?;
                self.farm.etcd.start_member(member)
            }
            Fault::FullDisk => self.full_disk(lasts),
            Fault::FlippedBytes { server } => self.flipped_bytes(server, lasts),
            Fault::LyingPeer { liar, asker } => self.lying_peer(liar, asker, lasts),
        }
    }

    fn hold(&self, lasts: Duration) -> Result<()> {
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            self.shared.is_right()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The writer is there while it fills up; imports there are refused in words.
    fn full_disk(&mut self, lasts: Duration) -> Result<()> {
        let Some(store) = self.farm.small_store(self.small) else { bail!("no store can be filled") };
        self.shared.send_writer_to(self.small);
        self.hold(Duration::from_secs(1))?;
        store.fill()?;
        let refused = importer::import(self.shared, self.small, "does-not-fit", FULL_EPOCH);
        self.hold(lasts)?;
        store.free()?;
        let Err(refused) = refused else { bail!("an import into a full store was not refused") };
        let said = format!("{refused:#}");
        ensure!(
            said.contains("in the store") && said.contains("hint:"),
            "a full store is not told of clearly: {said}"
        );
        Ok(())
    }

    /// The disk rots where nobody has read for a moment; readers go on, a scrub finds it.
    fn flipped_bytes(&mut self, server: usize, lasts: Duration) -> Result<()> {
        self.shared.send_writer_to((server + 1) % self.farm.count());
        self.shared.set_quiet(server, true);
        self.hold(OUT_OF_MEMORY)?;
        let flipped = flip::flip(&self.farm.store_path(server), FLIPS, &mut self.random);
        self.shared.set_quiet(server, false);
        let flipped = flipped?;
        self.hold(lasts)?;
        let asked_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        let seat = &self.shared.seats[server];
        seat.cli(&["store", "scrub", "--now"])?;
        self.until("a whole scrub that leaves nothing damaged", || {
            let scrubs = seat.json(&["store", "scrub"])?;
            let ended = scrubs[0]["last"]["ended_ms"].as_u64().is_some_and(|at| at >= asked_ms);
            Ok(ended && scrubs[0]["quarantined_chunks"] == 0)
        })?;
        // The rest lies where a later checkpoint of the same version has other bytes.
        let mended = flipped.iter().filter(|flipped| flipped.is_mended()).count();
        ensure!(mended > 0, "none of {FLIPS} flipped bits was repaired: {flipped:?}");
        Ok(())
    }

    /// A version comes to be that the asker can get from a liar only: it takes nothing of it, and says
    /// so; when it reaches the third server it gets the version there.
    fn lying_peer(&mut self, liar: usize, asker: usize, lasts: Duration) -> Result<()> {
        let third = (0..self.farm.count()).find(|n| ![liar, asker].contains(n));
        let third = third.context("there are three servers")?;
        self.farm.cut_both(self.farm.host(asker), self.farm.host(third))?;
        self.farm.cut_both(self.farm.host(asker), self.farm.host(liar))?;
        let lie = self.random.below(LIE_EPOCH);
        let name = format!("lied-about-{lie:x}");
        self.until("an import beside the cut", || {
            importer::import(self.shared, third, &name, LIE_EPOCH + lie)?;
            Ok(true)
        })?;
        self.until("the liar has what it will lie about", || {
            let shown = self.shared.seats[third].json(&["version", "show", &name, "1"])?;
            Ok(shown["copies"].as_array().is_some_and(|copies| copies.len() == 2))
        })?;
        self.farm.kill(liar)?;
        let impostor = self.farm.impostor(liar, self.lying_peer)?;
        self.farm.mend_between(self.farm.host(asker), self.farm.host(liar))?;
        let told = self.until("the lie is told of", || self.is_told_of(third, liar, asker, &name));
        self.hold(lasts)?;
        drop(impostor);
        self.farm.start(liar)?;
        self.farm.mend()?;
        told
    }

    /// Whether the asker has told that the liar lied about the version.
    fn is_told_of(&self, at: usize, liar: usize, asker: usize, name: &str) -> Result<bool> {
        let seat = &self.shared.seats[at];
        let root = text(&seat.json(&["version", "show", name, "1"])?, "root")?;
        let events = seat.json(&["events", "--kind", "peer-wrong-bytes"])?;
        let told = |event: &Value| {
            let by = event["server"].as_str() == Some(self.farm.name(asker));
            let subject = event["subject"].as_str().unwrap_or_default();
            let about = subject.split_once('/').filter(|(who, _)| *who == self.farm.name(liar));
            by && about.is_some_and(|(_, short)| root.starts_with(short))
        };
        Ok(events.as_array().into_iter().flatten().any(told))
    }

    fn until(&self, what: &str, mut met: impl FnMut() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + REPAIR;
        loop {
            self.shared.is_right()?;
            let last = met();
            if matches!(last, Ok(true)) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("never came: {what} ({last:?})\n{}", self.farm.logs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
