//! What happens when the write cache is full: a message, and where the plan says so a reboot.

use crate::console::{self, RateLimit};
use crate::device_disk::DeviceDisk;
use disk::CacheFill;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::plan::{WhenFull, WriteCachePlan};
use std::sync::Weak;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A full cache refuses thousands of writes a second.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Fill levels, in percent, that are told once each on the way up.
const LEVELS: [u64; 3] = [75, 90, 100];
/// What the plan's `Reboot` promises to whoever sits at the device.
const NOTICE: Duration = Duration::from_secs(10);
/// A clean reboot that has not come by then is not coming.
const CLEAN_WITHIN: Duration = Duration::from_secs(90);

/// Starts watching the fill level on a thread of its own; it ends with the disk.
pub(crate) fn start(plan: &WriteCachePlan, disk: Weak<DeviceDisk>) -> std::io::Result<()> {
    let WriteCachePlan::DeviceRam { when_full, .. } = *plan;
    let watch = move || {
        let mut watch = Watch { level: 0, refused: 0, tell: RateLimit::new(TELL_EVERY) };
        while let Some(disk) = disk.upgrade() {
            let fill = disk.fill();
            drop(disk);
            if watch.look(fill) && when_full == WhenFull::Reboot {
                return reboot_clean();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    };
    std::thread::Builder::new().name("fill".into()).spawn(watch).map(drop)
}

struct Watch {
    level: usize,
    refused: u64,
    tell: RateLimit,
}

impl Watch {
    /// Says what is new; answers whether a write was refused since the last look.
    fn look(&mut self, fill: CacheFill) -> bool {
        let percent = fill.used_bytes.saturating_mul(100) / fill.limit_bytes.max(1);
        let level = LEVELS.iter().filter(|level| percent >= **level).count();
        if level > self.level {
            console::problem(format!("the write cache is {percent} % full ({} MiB)", fill.limit_bytes >> 20));
        }
        self.level = level;
        let refused = fill.refused > self.refused;
        if refused && self.tell.admit(Instant::now()).is_some() {
            console::problem(format!(
                "the write cache is full: {} writes refused with \"no space left on device\" so far\n\
                 hint: reboot for an empty cache, or give this device a larger one",
                fill.refused
            ));
        }
        self.refused = fill.refused;
        refused
    }
}

/// As if somebody had pressed Ctrl-Alt-Del, with notice; by force where that hangs.
fn reboot_clean() {
    console::problem(format!("the write cache is full: this device reboots in {} s", NOTICE.as_secs()));
    std::thread::sleep(NOTICE);
    console::problem("rebooting");
    if let Err(error) = kill(Pid::from_raw(1), Signal::SIGINT) {
        console::problem(format!("init cannot be told to reboot: {error}"));
    }
    std::thread::sleep(CLEAN_WITHIN);
    let error = reboot(RebootMode::RB_AUTOBOOT).unwrap_err();
    console::problem(format!("the kernel refuses to reboot: {error}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(used_bytes: u64, refused: u64) -> CacheFill {
        CacheFill { used_bytes, limit_bytes: 1000, refused, written_bytes: 0 }
    }

    #[test]
    fn a_refused_write_is_noticed_once() {
        let mut watch = Watch { level: 0, refused: 0, tell: RateLimit::new(TELL_EVERY) };
        assert!(!watch.look(fill(760, 0)));
        assert_eq!(watch.level, 1);
        assert!(watch.look(fill(1000, 3)));
        assert!(!watch.look(fill(1000, 3)));
        assert!(!watch.look(fill(100, 3)));
        assert_eq!(watch.level, 0, "a level is told again when it is reached again");
    }
}
