//! A token bucket: how long to wait so that a rate is kept. Pure: time comes in.

use std::num::NonZeroU64;
use std::time::Duration;

/// How much may pass at once after a pause, as time at full rate; by eye: short against what a
/// device notices.
const BURST: Duration = Duration::from_millis(50);

/// Bytes at a rate. Time is since any fixed moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    bytes_per_s: NonZeroU64,
    /// When everything that was taken so far is paid for.
    paid_at: Duration,
}

impl Bucket {
    pub(crate) fn new(bytes_per_s: NonZeroU64) -> Self {
        Self { bytes_per_s, paid_at: Duration::ZERO }
    }

    /// Takes `bytes` at the time `now`; answers how long to wait before the next take.
    pub(crate) fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s.get() as f64);
        self.paid_at = self.paid_at.max(now.saturating_sub(BURST)) + cost;
        self.paid_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_rate_is_kept_within_the_burst(
            takes in proptest::collection::vec((0u64..1 << 20, 0u64..200), 1..100),
        ) {
            let rate = 10 << 20;
            let mut bucket = Bucket::new(NonZeroU64::new(rate).unwrap());
            let (mut now, mut taken) = (Duration::from_secs(1000), 0);
            let start = now;
            for (bytes, pause_ms) in takes {
                taken += bytes;
                now += bucket.take(now, bytes);
                let allowed = (now - start + BURST).as_secs_f64() * rate as f64;
                prop_assert!(taken as f64 <= allowed + 1.0, "{taken} of {allowed}");
                now += Duration::from_millis(pause_ms);
            }
        }
    }
}
