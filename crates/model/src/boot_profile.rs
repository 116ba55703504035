//! Which chunks of a disk are read while it boots, roughly in the order of their first use.
//!
//! Text form, revision 1: runs `FIRST+COUNT` of chunk indices in decimal, `FIRST` alone where the
//! count is 1, separated by one space; at most 2,048 runs and 32,768 chunks (2 GiB), so at most
//! 32 KiB of text. A chunk may be named twice; the first time counts. The order is exact to
//! 256 chunks (16 MiB): inside such a window chunks stand in disk order, which keeps runs long and
//! costs nobody time.

use crate::chunk::ChunkIndex;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The most chunks of a profile: 2 GiB, far more than any boot reads.
pub const MAX_CHUNKS: usize = 32_768;
/// The most runs of a profile: about 16 KiB of text, so that a record of it stays small.
pub const MAX_RUNS: usize = 2_048;
/// Chunks whose order among each other is not kept.
const WINDOW: usize = 256;
/// The largest gap that is filled to keep within [`MAX_RUNS`]: reading 4 MiB too much, by eye.
const MAX_GAP: u32 = 64;

/// Chunks in order of first use. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootProfile {
    runs: Arc<[ChunkRun]>,
}

/// Chunks that follow each other on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRun {
    /// The first of them.
    pub first: ChunkIndex,
    /// How many; at least 1.
    pub count: u32,
}

/// Text that is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a boot profile: {0}")]
pub struct InvalidProfile(&'static str);

impl BootProfile {
    /// The profile of chunks that were read in this order; what is beyond the limits is cut off.
    pub fn from_order(chunks: impl IntoIterator<Item = ChunkIndex>) -> Self {
        let mut seen = HashSet::new();
        let first_uses = chunks.into_iter().filter(|chunk| seen.insert(*chunk));
        let mut order: Vec<u32> = first_uses.take(MAX_CHUNKS).map(|chunk| chunk.0).collect();
        order.chunks_mut(WINDOW).for_each(<[u32]>::sort_unstable);
        Self { runs: within_limits(runs_of(&order)).into() }
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The chunks, each once, in order.
    pub fn chunks(&self) -> Vec<ChunkIndex> {
        let mut seen = HashSet::new();
        let all = self.runs.iter().flat_map(|run| (run.first.0..).take(run.count as usize));
        all.map(ChunkIndex).filter(|chunk| seen.insert(*chunk)).collect()
    }

    /// The runs, in order.
    pub fn runs(&self) -> &[ChunkRun] {
        &self.runs
    }

    /// This profile with what a later boot has read: its new chunks come behind those that they
    /// were read behind.
    pub fn merged(&self, later: &Self) -> Self {
        let known = self.chunks();
        let rank: HashMap<ChunkIndex, usize> = known.iter().copied().zip(1..).collect();
        let mut order: Vec<((usize, usize), ChunkIndex)> =
            known.iter().copied().enumerate().map(|(at, chunk)| ((at + 1, 0), chunk)).collect();
        let mut after = 0;
        for (number, chunk) in later.chunks().into_iter().enumerate() {
            match rank.get(&chunk) {
                Some(rank) => after = *rank,
                None => order.push(((after, number + 1), chunk)),
            }
        }
        order.sort_unstable();
        Self::from_order(order.into_iter().map(|(_, chunk)| chunk))
    }

    /// How many chunks of `later` this profile does not name.
    pub fn lacks(&self, later: &Self) -> usize {
        let known: HashSet<ChunkIndex> = self.chunks().into_iter().collect();
        later.chunks().iter().filter(|chunk| !known.contains(chunk)).count()
    }
}

fn runs_of(order: &[u32]) -> Vec<ChunkRun> {
    let mut runs: Vec<ChunkRun> = Vec::new();
    for chunk in order {
        match runs.last_mut() {
            Some(run) if u64::from(run.first.0) + u64::from(run.count) == u64::from(*chunk) => run.count += 1,
            _ => runs.push(ChunkRun { first: ChunkIndex(*chunk), count: 1 }),
        }
    }
    runs
}

/// Fills gaps, small ones first, until the runs are few enough; cuts off the rest.
fn within_limits(mut runs: Vec<ChunkRun>) -> Vec<ChunkRun> {
    let mut gap = 1;
    while runs.len() > MAX_RUNS && gap <= MAX_GAP {
        runs = filled(&runs, gap);
        gap *= 2;
    }
    runs.truncate(MAX_RUNS);
    let mut left = MAX_CHUNKS as u32;
    runs.retain_mut(|run| {
        run.count = run.count.min(left);
        left -= run.count;
        run.count > 0
    });
    runs
}

fn filled(runs: &[ChunkRun], gap: u32) -> Vec<ChunkRun> {
    let mut joined: Vec<ChunkRun> = Vec::new();
    for run in runs {
        if let Some(last) = joined.last_mut() {
            let end = last.first.0 + last.count;
            if (end..=end.saturating_add(gap)).contains(&run.first.0) {
                last.count = run.first.0 - last.first.0 + run.count;
                continue;
            }
        }
        joined.push(*run);
    }
    joined
}

impl fmt::Display for BootProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, ChunkRun { first, count }) in self.runs.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            match count {
                1 => write!(f, "{space}{}", first.0)?,
                _ => write!(f, "{space}{}+{count}", first.0)?,
            }
        }
        Ok(())
    }
}

impl FromStr for BootProfile {
    type Err = InvalidProfile;

    fn from_str(text: &str) -> Result<Self, InvalidProfile> {
        let mut runs = Vec::new();
        let mut chunks = 0_u64;
        for word in text.split(' ').filter(|_| !text.is_empty()) {
            let (first, count) = word.split_once('+').unwrap_or((word, "1"));
            let number =
                |digits: &str| digits.parse::<u32>().map_err(|_| InvalidProfile("a number is expected"));
            let (first, count) = (number(first)?, number(count)?);
            chunks += u64::from(count);
            if count == 0 || first.checked_add(count).is_none() {
                return Err(InvalidProfile("a run is empty or leaves every disk"));
            }
            if runs.len() == MAX_RUNS || chunks > MAX_CHUNKS as u64 {
                return Err(InvalidProfile("it is longer than any"));
            }
            runs.push(ChunkRun { first: ChunkIndex(first), count });
        }
        Ok(Self { runs: runs.into() })
    }
}

impl TryFrom<String> for BootProfile {
    type Error = InvalidProfile;

    fn try_from(text: String) -> Result<Self, InvalidProfile> {
        text.parse()
    }
}

impl From<BootProfile> for String {
    fn from(profile: BootProfile) -> Self {
        profile.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn profile(chunks: impl IntoIterator<Item = u32>) -> BootProfile {
        BootProfile::from_order(chunks.into_iter().map(ChunkIndex))
    }

    fn numbers(profile: &BootProfile) -> Vec<u32> {
        profile.chunks().into_iter().map(|chunk| chunk.0).collect()
    }

    #[test]
    fn the_golden_text_is_written_to_the_byte() {
        let order = (0..256).map(|n| n * 2).chain([9, 7, 8, 100_000, 7]);
        let text = profile(order).to_string();
        assert_eq!(text + "\n", include_str!("../golden/boot-profile-1.txt"));
    }

    #[test]
    fn what_a_later_boot_reads_in_between_comes_in_between() {
        let first: Vec<u32> = (0..WINDOW as u32).chain((0..WINDOW as u32).map(|n| 10_000 + n)).collect();
        let later = (0..3).chain([5_000]).chain((0..3).map(|n| 10_000 + n)).chain([6_000]);
        let merged = profile(first).merged(&profile(later));
        let at = |chunk: u32| numbers(&merged).iter().position(|other| *other == chunk).unwrap();
        assert!(at(5_000) < at(10_255) && at(0) < at(10_255));
        assert_eq!(merged.chunks().len(), 514);
        assert_eq!((merged.lacks(&profile([5_000, 7_000])), merged.lacks(&merged)), (1, 0));
    }

    #[test]
    fn a_profile_stays_small_whatever_is_read() {
        let scattered = profile((0..MAX_CHUNKS as u32 + 5_000).map(|n| n * 3));
        assert!(scattered.runs().len() <= MAX_RUNS && scattered.chunks().len() <= MAX_CHUNKS);
        assert!(numbers(&scattered).starts_with(&[0, 1, 2, 3]));
        let far = profile((0..5_000).map(|n| n * 1_000));
        assert_eq!(far.runs().len(), MAX_RUNS);
        assert!(far.to_string().len() < 32 << 10);
    }

    #[test]
    fn other_text_is_refused() {
        for text in [" ", "1 ", "a", "1+0", "4294967295+1", "1+40000", "-1", "1,2", "1+2+3"] {
            assert!(text.parse::<BootProfile>().is_err(), "{text:?}");
        }
        assert!("".parse::<BootProfile>().unwrap().is_empty());
        assert!(vec!["5"; MAX_RUNS + 1].join(" ").parse::<BootProfile>().is_err());
    }

    proptest! {
        #[test]
        fn a_profile_reads_back_as_it_was_written(chunks in prop::collection::vec(0..2_000_u32, 0..600)) {
            let made = profile(chunks.clone());
            prop_assert_eq!(&made.to_string().parse::<BootProfile>().unwrap(), &made);
            let all: HashSet<u32> = chunks.into_iter().collect();
            prop_assert_eq!(numbers(&made).into_iter().collect::<HashSet<_>>(), all);
        }

        #[test]
        fn a_merged_profile_names_all_that_either_names(
            one in prop::collection::vec(0..2_000_u32, 0..600),
            two in prop::collection::vec(0..2_000_u32, 0..600),
        ) {
            let merged = profile(one.clone()).merged(&profile(two.clone()));
            let all: HashSet<u32> = one.into_iter().chain(two).collect();
            prop_assert_eq!(numbers(&merged).into_iter().collect::<HashSet<_>>(), all);
        }
    }
}
