//! Boot profiles: which chunks devices read while they boot, learned here and used here.
//!
//! Each session of a device notes what is read first ([`disk::Recorded`]). When its boot is over,
//! that is merged into the record of the content ([`farm::rules::profile`]), which every server
//! knows, also one that does not have the version. What is in production is brought into the page
//! cache by it: when it is promoted, when the last of it has come, and at the server's start.
//! The order in which missing chunks come is the mesh's, which is told the profile by
//! `replication.rs`.

use super::disks::Disks;
use super::farm::FarmHandle;
use super::shutdown::Shutdown;
use disk::{BlockIo, BootLimits, BootRecorder, Recorded};
use farm::FarmView;
use farm::rules::profile::{self, profile_of};
use model::{BootProfile, Name, Root};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The most boots that are noted at a time; others are not needed to know a version.
const MAX_RECORDINGS: usize = 64;
/// The most of one content.
const MAX_OF_ONE: usize = 2;
/// A boot reads at least so many chunks: 1 MiB. Whoever reads less looks at a disk and leaves.
const LEAST_CHUNKS: usize = 16;
/// How often is looked whether boots are over.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The part of the memory that is free or easily freed which one round of warming may fill.
const MEMORY_SHARE: u64 = 4;

/// The boots that are being noted.
pub(crate) struct Profiles {
    limits: Option<BootLimits>,
    recordings: Mutex<Vec<Recording>>,
    warmed_bytes: AtomicU64,
}

struct Recording {
    root: Root,
    recorder: Arc<BootRecorder>,
}

impl Profiles {
    /// Notes nothing yet; never does where there are no limits.
    pub(crate) fn new(limits: Option<BootLimits>) -> Self {
        Self { limits, recordings: Mutex::default(), warmed_bytes: AtomicU64::new(0) }
    }

    /// The disk of a session that is about to boot `root`, so that its boot is noted where it is
    /// worth it.
    pub(crate) fn recorded(&self, root: Root, disk: Arc<dyn BlockIo>) -> Arc<dyn BlockIo> {
        let Some(limits) = self.limits else { return disk };
        let mut recordings = self.recordings();
        let of_root = recordings.iter().filter(|recording| recording.root == root).count();
        if of_root >= MAX_OF_ONE || recordings.len() >= MAX_RECORDINGS {
            return disk;
        }
        let recorder = BootRecorder::new(disk.geometry().size_bytes, limits);
        recordings.push(Recording { root, recorder: Arc::clone(&recorder) });
        Arc::new(Recorded::new(disk, recorder))
    }

    /// How many boots are noted now.
    pub(crate) fn recording(&self) -> usize {
        self.recordings().len()
    }

    /// Bytes that were asked into the page cache since the start.
    pub(crate) fn warmed_bytes(&self) -> u64 {
        self.warmed_bytes.load(Ordering::Relaxed)
    }

    /// What the boots have read that are over, or whose session has ended.
    fn ended(&self, now: Instant) -> Vec<(Root, BootProfile)> {
        let is_over = |recording: &mut Recording| {
            // Nobody else has it: its disk is gone.
            Arc::strong_count(&recording.recorder) == 1 || recording.recorder.is_over(now)
        };
        let over: Vec<Recording> = self.recordings().extract_if(.., is_over).collect();
        let read = over.into_iter().map(|recording| (recording.root, recording.recorder.finish()));
        read.filter(|(_, read)| read.chunks().len() >= LEAST_CHUNKS).collect()
    }

    fn recordings(&self) -> MutexGuard<'_, Vec<Recording>> {
        self.recordings.lock().expect("no holder of this lock panics")
    }
}

/// Learns and warms as long as the server runs.
pub(super) async fn run(
    profiles: Arc<Profiles>,
    farm: Arc<FarmHandle>,
    disks: Arc<Disks>,
    shutdown: Shutdown,
) {
    let mut warmed = BTreeMap::new();
    loop {
        learn(&profiles, &farm).await;
        sweep(&farm).await;
        let (view, noted, with) = (farm.view(), Arc::clone(&profiles), Arc::clone(&disks));
        let warm = tokio::task::spawn_blocking(move || {
            noted.warm(&view, &with, &mut warmed);
            warmed
        });
        warmed = warm.await.expect("warming does not panic");
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => (),
            () = shutdown.wait() => return,
        }
    }
}

/// Writes down what the boots that are over have read.
async fn learn(profiles: &Profiles, farm: &FarmHandle) {
    for (root, read) in profiles.ended(Instant::now()) {
        let learned = farm.decide(|view, now| Ok(profile::learned(view, root, &read, now))).await;
        match learned {
            Ok(()) => tracing::debug!(root = %root.short(), chunks = read.chunks().len(), "a boot was noted"),
            // The next boot tells the same.
            Err(error) => tracing::info!(root = %root.short(), %error, "a boot profile is not written"),
        }
    }
}

async fn sweep(farm: &FarmHandle) {
    // Asked first: mostly there is nothing, and nobody has to wait for the database.
    if !profile::sweep(&farm.view(), super::farm::now()).writes.is_empty()
        && let Err(error) = farm.decide(|view, now| Ok(profile::sweep(view, now))).await
    {
        tracing::debug!(%error, "boot profiles are swept later");
    }
}

impl Profiles {
    /// Brings what is in production and was not brought yet into the page cache. `warmed` are the
    /// contents that were, and whether all of them was here.
    fn warm(&self, view: &FarmView, disks: &Disks, warmed: &mut BTreeMap<Root, bool>) {
        let production: Vec<_> = view.vdisks.keys().filter_map(|vdisk| view.production_of(vdisk)).collect();
        warmed.retain(|root, _| production.iter().any(|version| version.root == *root));
        let mut budget = None;
        for version in production {
            let Some(profile) = profile_of(view, version) else { continue };
            let Some(store) = view.vdisks.get(&version.vdisk).map(|vdisk| &vdisk.store) else { continue };
            let Some(stored) = to_warm(disks, store, version.root, warmed) else { continue };
            let budget = budget.get_or_insert_with(|| available_bytes() / MEMORY_SHARE);
            let asked = stored.warm(&profile.learned.chunks.chunks(), *budget);
            *budget -= asked;
            self.warmed_bytes.fetch_add(asked, Ordering::Relaxed);
            warmed.insert(version.root, stored.is_complete());
            tracing::info!(
                vdisk = %version.vdisk, version = %version.number, mib = asked >> 20,
                "what devices read while they boot was asked into memory"
            );
        }
    }
}

/// A version that is here and was not warmed as far as it is here now.
fn to_warm(
    disks: &Disks,
    store: &Name,
    root: Root,
    warmed: &BTreeMap<Root, bool>,
) -> Option<Arc<store::StoredVersion>> {
    if warmed.get(&root) == Some(&true) {
        return None;
    }
    let stored = disks.version_here(store, root).ok()?;
    // In part before and in part now: the rest comes in the profile's order and stays in memory
    // where somebody waits for it.
    (warmed.get(&root).is_none() || stored.is_complete()).then_some(stored)
}

/// Memory that is free or easily freed, in bytes (proc(5), `MemAvailable`); 0 where that is not told.
fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::MemoryDisk;
    use model::DiskSize;

    fn boot(profiles: &Profiles, byte: u8, chunks: u64) -> Arc<dyn BlockIo> {
        let disk = Arc::new(MemoryDisk::writable(DiskSize::new(8 << 20).unwrap()));
        let disk = profiles.recorded(Root::from_bytes([byte; 32]), disk);
        (0..chunks).for_each(|chunk| disk.read_at(chunk << 16, &mut [0; 512]).unwrap());
        disk
    }

    #[test]
    fn a_boot_is_noted_when_it_is_over_or_its_device_is_gone() {
        let profiles = Profiles::new(Some(BootLimits::default()));
        let runs = boot(&profiles, 1, 20);
        drop(boot(&profiles, 2, 30));
        drop(boot(&profiles, 3, 2));
        let ended = profiles.ended(Instant::now());
        assert_eq!(ended.len(), 1, "one looked only, one still boots");
        assert_eq!((ended[0].0, ended[0].1.to_string().as_str()), (Root::from_bytes([2; 32]), "0+30"));
        assert_eq!(profiles.recording(), 1);
        let ended = profiles.ended(Instant::now() + Duration::from_secs(60));
        assert_eq!(ended[0].1.to_string(), "0+20");
        assert_eq!(profiles.recording(), 0);
        drop(runs);
    }

    #[test]
    fn two_boots_of_a_version_at_a_time_are_enough() {
        let profiles = Profiles::new(Some(BootLimits::default()));
        let _disks: Vec<_> = (0..5).map(|_| boot(&profiles, 1, 1)).collect();
        assert_eq!(profiles.recording(), MAX_OF_ONE);
        let off = Profiles::new(None);
        let _disk = boot(&off, 1, 20);
        assert_eq!(off.recording(), 0);
    }

    #[test]
    fn the_kernel_says_how_much_memory_there_is() {
        assert!(available_bytes() > 1 << 20);
    }
}
