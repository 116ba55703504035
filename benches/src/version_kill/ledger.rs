//! What the disk must hold: for each block everything that it may read as.
//!
//! A block's candidates are the value of the last acknowledged flush and every value sent since,
//! oldest first. After a crash it must read as one of them, and from then on as that one only: so
//! a lost flush, a torn block and a value that comes back after a newer one was seen are all found.

use anyhow::{Result, bail, ensure};

/// Bytes of a block.
pub const BLOCK: usize = 4096;

const CHECKSUM: usize = 32;

/// What a block may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// What the image held at the import.
    Original,
    /// Zeros, by TRIM or WRITE_ZEROES.
    Zero,
    /// The pattern of this write.
    Pattern {
        /// Grows with every write of a run.
        sequence: u64,
        /// The number of the version that it was written to.
        version: u64,
    },
}

/// The expected content of a disk.
#[derive(Clone, Debug)]
pub struct Ledger {
    original: Vec<u8>,
    candidates: Vec<Vec<Value>>,
    sequence: u64,
}

impl Ledger {
    /// A disk with the bytes of an image; its length is a multiple of 4 KiB.
    pub fn new(original: Vec<u8>) -> Self {
        assert!(original.len().is_multiple_of(BLOCK), "the image has whole blocks");
        let blocks = original.len() / BLOCK;
        Self { original, candidates: vec![vec![Value::Original]; blocks], sequence: 0 }
    }

    /// How many blocks the disk has.
    pub fn blocks(&self) -> usize {
        self.candidates.len()
    }

    /// Notes that a pattern is about to be written to `block`; answers its bytes.
    pub fn write(&mut self, block: usize, version: u64) -> [u8; BLOCK] {
        self.sequence += 1;
        self.candidates[block].push(Value::Pattern { sequence: self.sequence, version });
        pattern(block as u64, self.sequence, version)
    }

    /// Notes that `block` is about to be made zero.
    pub fn zero(&mut self, block: usize) {
        self.candidates[block].push(Value::Zero);
    }

    /// Notes that a flush was acknowledged after all that was sent so far had been.
    pub fn flushed(&mut self) {
        for candidates in &mut self.candidates {
            candidates.drain(..candidates.len() - 1);
        }
    }

    /// Compares what was read from `block` on with what may be there; the rest of the run expects
    /// what was found.
    pub fn observe(&mut self, first: usize, bytes: &[u8]) -> Result<()> {
        for (block, bytes) in (first..).zip(bytes.chunks_exact(BLOCK)) {
            let found = self.candidates[block].iter().rev().find(|value| self.is(**value, block, bytes));
            let Some(found) = found.copied() else {
                bail!(
                    "block {block} holds {}, and may hold {:?} only",
                    describe(block, bytes),
                    self.candidates[block]
                )
            };
            self.candidates[block] = vec![found];
        }
        Ok(())
    }

    /// Requires that each block has one value only, and that `bytes` is the whole disk of them.
    pub fn require(&self, bytes: &[u8]) -> Result<()> {
        for (block, bytes) in bytes.chunks_exact(BLOCK).enumerate() {
            let [value] = self.candidates[block][..] else { bail!("block {block} is not settled") };
            ensure!(
                self.is(value, block, bytes),
                "block {block} holds {}, and must hold {value:?}",
                describe(block, bytes)
            );
        }
        Ok(())
    }

    fn is(&self, value: Value, block: usize, bytes: &[u8]) -> bool {
        match value {
            Value::Original => bytes == &self.original[block * BLOCK..][..BLOCK],
            Value::Zero => bytes.iter().all(|byte| *byte == 0),
            Value::Pattern { sequence, version } => bytes == pattern(block as u64, sequence, version),
        }
    }
}

/// Address, sequence, version, filler made of them, and a BLAKE3 checksum of all of it.
fn pattern(block: u64, sequence: u64, version: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    let mut word = block ^ sequence.rotate_left(20) ^ version.rotate_left(44);
    for (place, field) in bytes[..BLOCK - CHECKSUM].chunks_exact_mut(8).zip(0u64..) {
        let value = match field {
            0 => block,
            1 => sequence,
            2 => version,
            _ => {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                word
            }
        };
        place.copy_from_slice(&value.to_le_bytes());
    }
    let checksum = blake3::hash(&bytes[..BLOCK - CHECKSUM]);
    bytes[BLOCK - CHECKSUM..].copy_from_slice(checksum.as_bytes());
    bytes
}

/// What a block that is wrong looks like, for people.
fn describe(block: usize, bytes: &[u8]) -> String {
    let field = |at: usize| u64::from_le_bytes(bytes[at * 8..][..8].try_into().expect("eight bytes"));
    if bytes.iter().all(|byte| *byte == 0) {
        "zeros".to_owned()
    } else if blake3::hash(&bytes[..BLOCK - CHECKSUM]).as_bytes() == &bytes[BLOCK - CHECKSUM..] {
        let place = if field(0) == block as u64 { "" } else { ", of another block" };
        format!("the whole pattern of write {} to version {}{place}", field(1), field(2))
    } else if field(0) == block as u64 {
        format!("a torn pattern that begins as write {} to version {}", field(1), field(2))
    } else {
        "bytes that are no pattern".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new((0..2 * BLOCK).map(|at| at as u8).collect())
    }

    #[test]
    fn before_a_flush_old_and_new_are_allowed_and_the_one_that_is_seen_stays() {
        let mut ledger = ledger();
        let original = ledger.original[..BLOCK].to_vec();
        let first = ledger.write(0, 2);
        let second = ledger.write(0, 2);
        ledger.clone().observe(0, &original).unwrap();
        ledger.clone().observe(0, &second).unwrap();
        ledger.observe(0, &first).unwrap();
        ledger.observe(0, &first).unwrap();
        assert!(ledger.observe(0, &original).is_err(), "it was overwritten");
        assert!(ledger.observe(0, &second).is_err(), "it was lost before");
    }

    #[test]
    fn after_a_flush_only_the_newest_value_will_do() {
        let mut ledger = ledger();
        let first = ledger.write(0, 2);
        let second = ledger.write(0, 2);
        ledger.flushed();
        assert!(ledger.clone().observe(0, &first).unwrap_err().to_string().contains("write 1 to version 2"));
        ledger.observe(0, &second).unwrap();
        ledger.zero(0);
        ledger.flushed();
        ledger.observe(0, &[0; BLOCK]).unwrap();
        assert!(ledger.observe(0, &second).is_err());
    }

    #[test]
    fn torn_and_misplaced_blocks_are_called_so() {
        let mut ledger = ledger();
        let mut torn = ledger.write(0, 2);
        torn[2048..].fill(9);
        let other = ledger.write(1, 2);
        assert!(ledger.observe(0, &torn).unwrap_err().to_string().contains("torn"));
        assert!(ledger.observe(0, &other).unwrap_err().to_string().contains("of another block"));
    }

    #[test]
    fn a_whole_disk_is_required_block_by_block() {
        let mut ledger = ledger();
        let mut bytes = ledger.original.clone();
        ledger.require(&bytes).unwrap();
        let written = ledger.write(1, 3);
        assert!(ledger.require(&bytes).is_err(), "it is not settled");
        ledger.flushed();
        assert!(ledger.require(&bytes).is_err(), "it is the old one");
        bytes[BLOCK..].copy_from_slice(&written);
        ledger.require(&bytes).unwrap();
    }
}
