//! Messages for whoever looks at the device's screen, and for `dmesg`.
//!
//! Everything goes through the kernel's log, which prints it on every console that the command
//! line names. Problems have a level that is shown in spite of `quiet`. Where there is no kernel
//! log to write to (a test, a container), messages go to standard error.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The longest message in bytes; the kernel cuts records at about 1,000.
const MAX_MESSAGE_BYTES: usize = 900;

/// How urgent a message is (the kernel's levels 6 and 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Info = 6,
    Problem = 3,
}

static TO_KERNEL: OnceLock<std::fs::File> = OnceLock::new();

/// Sends all messages of this process to the kernel's log, if there is one.
///
/// Held open: after the image's init has moved `/dev` away there is no path to it any more.
pub(crate) fn use_kernel_log() {
    if let Ok(file) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = TO_KERNEL.set(file);
    }
}

/// Says what happened.
pub(crate) fn info(message: impl Display) {
    write(Level::Info, &message.to_string());
}

/// Says what went wrong; shown on the console also where the kernel boots `quiet`.
pub(crate) fn problem(message: impl Display) {
    write(Level::Problem, &message.to_string());
}

fn write(level: Level, message: &str) {
    for line in message.lines() {
        let end = line.floor_char_boundary(MAX_MESSAGE_BYTES);
        let line = &line[..end];
        let written = TO_KERNEL.get().is_some_and(|mut log| {
            log.write_all(format!("<{}>headwater: {line}\n", level as u8).as_bytes()).is_ok()
        });
        if !written {
            eprintln!("headwater: {line}");
        }
    }
}

/// Lets one message through in every interval, so that a peer's trouble cannot flood the log.
#[derive(Debug)]
pub(crate) struct RateLimit {
    every: Duration,
    last: Option<Instant>,
    held_back: u64,
}

impl RateLimit {
    /// One message in `every`.
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, last: None, held_back: 0 }
    }

    /// Whether a message may go out at `now`, and how many were held back since the last one.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < self.every) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_counts_what_it_holds_back() {
        let mut limit = RateLimit::new(Duration::from_secs(5));
        let start = Instant::now();
        assert_eq!(limit.admit(start), Some(0));
        assert_eq!(limit.admit(start + Duration::from_secs(1)), None);
        assert_eq!(limit.admit(start + Duration::from_secs(4)), None);
        assert_eq!(limit.admit(start + Duration::from_secs(6)), Some(2));
    }
}
