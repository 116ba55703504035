//! Keeps what strangers send from filling the log.

use std::time::{Duration, Instant};

/// Lines a second, by eye: enough for a room of devices that boot at once.
const LINES: u32 = 20;

/// Lets through so many lines a second and counts the rest.
#[derive(Debug)]
pub(crate) struct LogBudget {
    second: Instant,
    used: u32,
    dropped: u64,
}

impl LogBudget {
    pub(crate) fn new() -> Self {
        Self { second: Instant::now(), used: 0, dropped: 0 }
    }

    /// Whether a line may be written now, and how many were left out before it.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.used = 0;
        }
        if self.used == LINES {
            self.dropped += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_a_few_lines_and_a_count() {
        let mut budget = LogBudget::new();
        let start = budget.second;
        let let_through = (0..1000).filter(|_| budget.take(start).is_some()).count();
        assert_eq!(let_through, 20);
        assert_eq!(budget.take(start + Duration::from_secs(1)), Some(980));
        assert_eq!(budget.take(start + Duration::from_secs(1)), Some(0));
    }
}
