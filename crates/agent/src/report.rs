//! Tells the servers how the device is doing, on a thread of its own and never in the way of I/O.
//!
//! Reports go to one server at a time, the next one where it does not answer; a report that finds
//! none is dropped, because the next one says the same and more.

use crate::device_disk::DeviceDisk;
use crate::fetch;
use crate::shutdown::ShutdownWatch;
use protocol::plan::{BootPlan, BootStage, DeviceReport};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

/// A server that takes longer is passed over.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Bounds for the plan's interval, in seconds.
const INTERVAL_S: std::ops::RangeInclusive<u32> = 1..=3600;
/// How often the device's progress is looked at: often enough for a boot timeline, and to tell of
/// a shutdown before it is over.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How far the boot has come, told from anywhere, reported from the reporter's thread.
#[derive(Clone)]
pub(crate) struct Progress {
    stage: Arc<AtomicU8>,
    wake: mpsc::SyncSender<()>,
}

const STAGES: [BootStage; 6] = [
    BootStage::AgentStarted,
    BootStage::DiskAttached,
    BootStage::FirstRead,
    BootStage::Running,
    BootStage::Stopping,
    BootStage::Stopped,
];

impl Progress {
    /// Notes a stage; stages never go back.
    pub(crate) fn reach(&self, stage: BootStage) {
        let number = STAGES.iter().position(|known| *known == stage).expect("all stages are listed") as u8;
        if self.stage.fetch_max(number, Ordering::Relaxed) < number {
            let _ = self.wake.try_send(()); // a full queue has woken the reporter already
        }
    }

    fn stage(&self) -> BootStage {
        STAGES[usize::from(self.stage.load(Ordering::Relaxed))]
    }
}

/// Starts the reporter; it ends with the disk.
pub(crate) fn start(plan: &BootPlan, disk: Weak<DeviceDisk>) -> std::io::Result<Progress> {
    let (wake, woken) = mpsc::sync_channel(1);
    let progress = Progress { stage: Arc::new(AtomicU8::new(0)), wake };
    let interval = plan.report_interval_s.clamp(*INTERVAL_S.start(), *INTERVAL_S.end());
    let reporter = Reporter {
        urls: plan.report_urls.clone(),
        interval: Duration::from_secs(interval.into()),
        disk,
        progress: progress.clone(),
        shutdown: ShutdownWatch::open(),
    };
    std::thread::Builder::new().name("report".into()).spawn(move || reporter.run(&woken))?;
    Ok(progress)
}

struct Reporter {
    urls: Vec<String>,
    interval: Duration,
    disk: Weak<DeviceDisk>,
    progress: Progress,
    shutdown: Option<ShutdownWatch>,
}

impl Reporter {
    fn run(mut self, woken: &mpsc::Receiver<()>) {
        let agent = fetch::http(ANSWER_WITHIN);
        let mut current = 0;
        while let Some(disk) = self.disk.upgrade() {
            let report = self.report(&disk);
            drop(disk);
            self.send(&agent, &report, &mut current);
            self.wait(report.stage, woken);
        }
    }

    /// Until the interval is over or a stage is reached.
    fn wait(&mut self, told: BootStage, woken: &mpsc::Receiver<()>) {
        let until = Instant::now() + self.interval;
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            let _ = woken.recv_timeout(left.min(LOOK_EVERY));
            let Some(disk) = self.disk.upgrade() else { return };
            self.look(&disk);
            if self.progress.stage() != told {
                return;
            }
        }
    }

    /// Finds out by itself what nobody tells.
    fn look(&mut self, disk: &DeviceDisk) {
        let stage = self.progress.stage();
        if stage == BootStage::DiskAttached && disk.was_read() {
            self.progress.reach(BootStage::FirstRead);
        }
        if stage >= BootStage::DiskAttached && stage < BootStage::Running && initrd_is_gone() {
            self.progress.reach(BootStage::Running);
        }
        if stage == BootStage::Running && self.shutdown.as_mut().is_some_and(ShutdownWatch::look) {
            self.progress.reach(BootStage::Stopping);
        }
    }

    fn report(&self, disk: &DeviceDisk) -> DeviceReport {
        let (fill, link) = (disk.fill(), disk.link());
        DeviceReport {
            stage: self.progress.stage(),
            uptime_ms: uptime().as_millis() as u64,
            cache_used_bytes: fill.used_bytes,
            cache_limit_bytes: fill.limit_bytes,
            cache_refused_writes: fill.refused,
            read_bytes: link.read_bytes,
            written_bytes: fill.written_bytes,
            retries: link.retries,
            server: link.server,
        }
    }

    fn send(&self, agent: &ureq::Agent, report: &DeviceReport, current: &mut usize) {
        let body = serde_json::to_vec(report).expect("a report has no unserialisable value");
        for _ in 0..self.urls.len() {
            let url = &self.urls[*current % self.urls.len()];
            if agent.post(url).header("content-type", "application/json").send(&body).is_ok() {
                return;
            }
            *current += 1;
        }
    }
}

/// Whether the image's init has switched to the streamed root: what leaves the initrd empties it,
/// and this process still sees that file system as its root.
fn initrd_is_gone() -> bool {
    !std::path::Path::new("/headwater/init").exists()
}

/// Time since the device's kernel started.
fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
