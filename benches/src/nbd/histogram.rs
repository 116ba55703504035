//! Latencies in buckets of 3 %: constant memory, no allocation while measuring.

const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB;

/// Counts by length in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    /// Counts one latency.
    #[inline]
    pub fn add(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
    }

    /// Adds another one's counts.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// The latency in nanoseconds that `per_mille` of all counted ones do not exceed; 0 where
    /// nothing was counted.
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return lower_bound(index + 1);
            }
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    let exponent = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    (exponent as usize) * SUB + (value >> exponent) as usize
}

fn lower_bound(index: usize) -> u64 {
    let exponent = (index / SUB).saturating_sub(1);
    ((index - exponent * SUB) as u64) << exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_three_per_cent() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|value| histogram.add(value * 1000));
        for (per_mille, exact) in [(500, 5_000_000.0), (990, 9_900_000.0)] {
            let found = histogram.quantile(per_mille) as f64;
            assert!((found / exact - 1.0).abs() < 0.04, "{per_mille}: {found} for {exact}");
        }
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in [0, 1, 31, 32, 33, 63, 64, 1000, 123_456_789, u64::MAX / 2] {
            let index = bucket(value);
            assert!(lower_bound(index) <= value && value < lower_bound(index + 1), "{value}");
        }
    }
}
