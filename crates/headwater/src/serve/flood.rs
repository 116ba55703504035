//! How many of something are taken in a window of time, whoever they come from.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Takes at most so many in each window.
#[derive(Debug)]
pub(super) struct Flood {
    most: u32,
    window: Duration,
    state: Mutex<Option<(Instant, u32)>>,
}

impl Flood {
    /// At most `most` in each `window`.
    pub(super) fn new(most: u32, window: Duration) -> Self {
        Self { most, window, state: Mutex::default() }
    }

    /// Whether one more is taken.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let (begun, count) = match *state {
            Some((begun, count)) if now.saturating_duration_since(begun) < self.window => (begun, count),
            _ => (now, 0),
        };
        let admitted = count < self.most;
        *state = Some((begun, count + u32::from(admitted)));
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_taken_in_each_window() {
        let (flood, now) = (Flood::new(3, Duration::from_secs(60)), Instant::now());
        let taken = |now| (0..10).filter(|_| flood.admits(now)).count();
        assert_eq!(taken(now), 3);
        assert_eq!(taken(now + Duration::from_secs(59)), 0);
        assert_eq!(taken(now + Duration::from_secs(60)), 3);
    }
}
