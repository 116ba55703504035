//! Tells the servers how the device is doing, on a thread of its own and never in the way of I/O.
//!
//! Reports go to one server at a time, the next one where it does not answer; a report that finds
//! none is dropped, because the next one says the same and more.

use crate::console;
use crate::device_disk::DeviceDisk;
use crate::fetch;
use crate::shutdown::ShutdownWatch;
use protocol::plan::{BootPlan, BootStage, DeviceReport, DiskPlan};
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
/// The same while a device with a draft goes down: between the moment its root file system is
/// read-only and the end there are some tens of milliseconds.
const LOOK_EVERY_AT_THE_END: Duration = Duration::from_millis(3);
/// For the last flush of a draft; the machine does not wait for it.
const LAST_FLUSH_WITHIN: Duration = Duration::from_secs(5);
/// The most of a server's reason that is shown.
const MAX_REASON_BYTES: u64 = 2000;

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
        is_draft: plan.disk == DiskPlan::Draft,
        reason_told: false,
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
    is_draft: bool,
    reason_told: bool,
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
            let _ = woken.recv_timeout(left.min(self.look_every()));
            let Some(disk) = self.disk.upgrade() else { return };
            self.look(&disk);
            if self.progress.stage() != told {
                return;
            }
        }
    }

    fn look_every(&self) -> Duration {
        let is_ending = self.progress.stage() == BootStage::Stopping;
        if self.is_draft && is_ending { LOOK_EVERY_AT_THE_END } else { LOOK_EVERY }
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
        if self.is_draft && stage == BootStage::Stopping && self.is_done_with_disk() {
            if let Err(error) = disk.remote().flush_within(LAST_FLUSH_WITHIN) {
                return console::problem(format!("the last flush of the disk: {error}"));
            }
            self.progress.reach(BootStage::Stopped);
        }
    }

    fn is_done_with_disk(&self) -> bool {
        self.shutdown.as_ref().is_some_and(ShutdownWatch::root_is_read_only)
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

    fn send(&mut self, agent: &ureq::Agent, report: &DeviceReport, current: &mut usize) {
        let body = serde_json::to_vec(report).expect("a report has no unserialisable value");
        for _ in 0..self.urls.len() {
            let url = &self.urls[*current % self.urls.len()];
            match agent.post(url).header("content-type", "application/json").send(&body) {
                Ok(answer) if answer.status() == ureq::http::StatusCode::CONFLICT => {
                    return self.tell_reason(answer.into_body());
                }
                Ok(answer) if answer.status().is_success() => return,
                _ => *current += 1,
            }
        }
    }

    /// Shows once why the server takes no more writes of this device.
    fn tell_reason(&mut self, body: ureq::Body) {
        if !std::mem::replace(&mut self.reason_told, true) {
            let text = body.into_with_config().limit(MAX_REASON_BYTES).read_to_string();
            console::problem(text.unwrap_or_else(|_| "the server takes no more writes".to_owned()));
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
