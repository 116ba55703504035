//! How fast the link to a peer is, and so in which form chunks are asked for.
//!
//! A fast link carries raw bytes: packing would cost more time than it saves. A slow one carries as
//! little as possible. Only raw answers are measured, and only the time in which bytes were waited
//! for: how fast a peer packs, and how fast they are stored here, says nothing of the link.

use protocol::mesh::Accept;
use std::time::Duration;

/// From here on bytes travel raw, in bytes a second: 1 Gbit/s carries 117,000,000.
const FAST: u64 = 90_000_000;
/// One answer in so many is asked for raw, to be measured: a link may become faster.
const MEASURED: u32 = 32;
/// The same where the link was far from fast: those answers are most of what it carries.
const MEASURED_IF_SLOW: u32 = 512;
/// Answers of less than this say little, in bytes.
const SMALLEST: u64 = 1 << 20;

/// What is known of one link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Speed {
    bytes_per_s: Option<u64>,
    asked: u32,
}

impl Speed {
    /// In which form the next chunks are welcome. `limit` is the most bytes a second that may come;
    /// `parent` the version whose chunks are here.
    pub(super) fn accept(&mut self, limit: Option<u64>, parent: Option<model::Root>) -> Accept {
        let is_far_off = self.bytes_per_s.is_some_and(|speed| speed < FAST / 2);
        let every = if is_far_off { MEASURED_IF_SLOW } else { MEASURED };
        let measures = self.asked.is_multiple_of(every);
        self.asked = self.asked.wrapping_add(1);
        let is_slow = match (limit, self.bytes_per_s) {
            (Some(limit), _) if limit < FAST => true,
            _ if measures => false,
            (_, Some(speed)) => speed < FAST,
            (_, None) => true,
        };
        Accept { zstd: is_slow, delta: parent.filter(|_| is_slow) }
    }

    /// Takes in how long was waited for so many raw bytes.
    pub(super) fn measured(&mut self, bytes: u64, waited: Duration) {
        if bytes >= SMALLEST {
            let now = bytes as f64 / waited.as_secs_f64().max(1e-6);
            self.bytes_per_s = Some(now.min(1e12) as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Root;

    #[test]
    fn a_slow_link_or_a_limit_asks_for_deltas_and_a_fast_one_for_raw_bytes() {
        let (mut speed, parent) = (Speed::default(), Some(Root::from_bytes([1; 32])));
        assert_eq!(speed.accept(Some(2_500_000), parent), Accept { zstd: true, delta: parent });
        assert_eq!(speed.accept(None, parent), Accept { zstd: true, delta: parent });
        speed.measured(4 << 20, Duration::from_millis(4));
        assert_eq!(speed.accept(None, parent), Accept::default());
        speed.measured(4 << 20, Duration::from_secs(2));
        assert_eq!(speed.accept(None, parent), Accept { zstd: true, delta: parent });
        speed.measured(1000, Duration::ZERO);
        assert_eq!(speed.accept(None, None), Accept { zstd: true, delta: None });
    }

    #[test]
    fn one_answer_in_many_is_measured() {
        let mut speed = Speed::default();
        let raw =
            |speed: &mut Speed| (0..1024).filter(|_| speed.accept(None, None) == Accept::default()).count();
        assert_eq!(raw(&mut speed), 32);
        speed.measured(4 << 20, Duration::from_secs(1));
        assert_eq!(raw(&mut speed), 2, "a slow link has better things to carry");
    }
}
