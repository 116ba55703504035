//! A boot-like mix: short runs of neighbouring reads of 4 to 64 KiB all over the disk, the same
//! for all devices, as machines that boot one image read it.

/// One read.
#[derive(Clone, Copy, Debug)]
pub struct ScriptRead {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// Sizes in KiB and how often of 100: 17 KiB on average, as block traces of booting systems have.
const SIZES: [(u32, u64); 5] = [(4, 40), (8, 15), (16, 20), (32, 15), (64, 10)];
/// The most reads in one run.
const LONGEST_RUN: u64 = 24;

/// A script of `reads` reads on a disk of `size_bytes`; the same in each run.
pub fn script(size_bytes: u64, reads: usize) -> Vec<ScriptRead> {
    let mut numbers = Numbers::new(11);
    let mut script = Vec::with_capacity(reads);
    while script.len() < reads {
        let mut offset = numbers.below(size_bytes / 4096 - 1024) * 4096;
        for _ in 0..=numbers.below(LONGEST_RUN) {
            let len = size(numbers.below(100));
            if script.len() < reads && offset + u64::from(len) <= size_bytes {
                script.push(ScriptRead { offset, len });
            }
            offset += u64::from(len);
        }
    }
    script
}

fn size(mut dice: u64) -> u32 {
    for (kib, share) in SIZES {
        match dice.checked_sub(share) {
            Some(rest) => dice = rest,
            None => return kib * 1024,
        }
    }
    4096
}

/// A small generator of the same numbers in every run (splitmix64).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Numbers that depend on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `limit`.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}
