//! Token buckets: how many bytes may be asked for now.

use std::time::Duration;

/// How much may be saved up while nothing is asked for: a quarter of a second's worth.
const SAVED: f64 = 0.25;

/// A token bucket in bytes; without a rate it lets everything pass.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: Option<f64>,
    tokens: f64,
    filled: Duration,
    /// The largest single withdrawal in bytes: what is saved up is at least this.
    smallest: f64,
}

impl Bucket {
    pub(super) fn unlimited(smallest: u64) -> Self {
        Self { rate: None, tokens: 0.0, filled: Duration::ZERO, smallest: smallest as f64 }
    }

    /// Changes the rate in bytes a second; what was saved up is kept as far as the new one allows.
    pub(super) fn set_rate(&mut self, now: Duration, rate: Option<u64>) {
        self.fill(now);
        self.rate = rate.map(|rate| rate as f64);
        self.tokens = self.tokens.min(self.capacity());
    }

    /// The rate in bytes a second, where there is one.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate
    }

    pub(super) fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + passed * self.rate.unwrap_or(0.0)).min(self.capacity());
    }

    fn capacity(&self) -> f64 {
        (self.rate.unwrap_or(0.0) * SAVED).max(self.smallest)
    }

    /// How many pieces of `bytes` may be taken now.
    pub(super) fn available(&self, bytes: u64) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(_) => (self.tokens / bytes as f64 + 1e-9).max(0.0) as u64,
        }
    }

    pub(super) fn take(&mut self, bytes: u64) {
        if self.rate.is_some() {
            self.tokens -= bytes as f64;
        }
    }

    /// Gives back what was taken for bytes that were not sent.
    pub(super) fn give_back(&mut self, bytes: u64) {
        if self.rate.is_some() {
            self.tokens = (self.tokens + bytes as f64).min(self.capacity());
        }
    }

    /// How long until `bytes` may be taken; none where that is never.
    pub(super) fn wait(&self, bytes: u64) -> Option<Duration> {
        let missing = bytes as f64 - self.tokens;
        match self.rate {
            _ if missing <= 0.0 => Some(Duration::ZERO),
            None => Some(Duration::ZERO),
            Some(rate) if rate > 0.0 => {
                Some(Duration::from_secs_f64((missing / rate).min(86_400.0)) + Duration::from_micros(1))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_minute_the_rate_is_kept_within_a_percent() {
        let mut bucket = Bucket::unlimited(65_536);
        bucket.set_rate(Duration::ZERO, Some(1_000_000));
        let (mut now, mut taken) = (Duration::ZERO, 0);
        while now < Duration::from_secs(60) {
            bucket.fill(now);
            let pieces = bucket.available(65_536);
            bucket.take(pieces * 65_536);
            taken += pieces * 65_536;
            now += bucket.wait(65_536).unwrap().max(Duration::from_millis(1));
        }
        assert!((59_400_000..=60_300_000).contains(&taken), "{taken}");
    }

    #[test]
    fn a_rate_of_zero_never_lets_anything_pass() {
        let mut bucket = Bucket::unlimited(1);
        bucket.set_rate(Duration::ZERO, Some(0));
        bucket.fill(Duration::from_secs(1000));
        assert_eq!((bucket.available(1), bucket.wait(1)), (0, None));
    }
}
