//! What a disk must hold: for each block everything that it may read as.
//!
//! A block's candidates are the value of the last acknowledged flush and every value sent since,
//! oldest first; a write that was refused may have been executed in part, and a later flush says
//! nothing of it. After a session was lost it must read as one of them, and from then on as that one
//! only: a lost flush, a torn block and a value that comes back after a newer one are all found.

use anyhow::{Result, bail};
use std::collections::HashSet;

/// Bytes of a block.
pub const BLOCK: usize = 4096;
const CHECKSUM: usize = 32;

/// What a block may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Zeros.
    Zero,
    /// The pattern of this write.
    Pattern {
        /// Grows with every write of a disk.
        sequence: u64,
        /// Tells disks and sessions apart.
        epoch: u64,
    },
}

/// The expected content of a disk that is written.
#[derive(Clone, Debug)]
pub struct Ledger {
    candidates: Vec<Vec<Value>>,
    sequence: u64,
    /// Sequences of writes that were refused and may be there all the same.
    refused: HashSet<u64>,
}

impl Ledger {
    /// A disk with this content.
    pub fn new(content: &[Value]) -> Self {
        let candidates = content.iter().map(|value| vec![*value]).collect();
        Self { candidates, sequence: 0, refused: HashSet::new() }
    }

    /// How many blocks the disk has.
    pub fn blocks(&self) -> usize {
        self.candidates.len()
    }

    /// Notes that a pattern is about to be written to `block`; answers its bytes.
    pub fn write(&mut self, block: usize, epoch: u64) -> [u8; BLOCK] {
        self.sequence += 1;
        let value = Value::Pattern { sequence: self.sequence, epoch };
        self.candidates[block].push(value);
        bytes_of(value, block)
    }

    /// Notes that the last `count` patterns were refused.
    pub fn refused(&mut self, count: usize) {
        self.refused.extend((0..count as u64).map(|back| self.sequence - back));
    }

    /// Notes that a flush was acknowledged after all that was sent so far had been answered.
    pub fn flushed(&mut self) {
        let refused = &self.refused;
        let was_done = |value: &Value| match value {
            Value::Zero => true,
            Value::Pattern { sequence, .. } => !refused.contains(sequence),
        };
        for candidates in &mut self.candidates {
            let last = candidates.iter().rposition(was_done).unwrap_or(0);
            candidates.drain(..last);
        }
    }

    /// Compares a whole disk with what may be there, and from then on expects what was found.
    pub fn observe(&mut self, bytes: &[u8]) -> Result<()> {
        for (block, bytes) in bytes.chunks(BLOCK).enumerate() {
            let candidates = &mut self.candidates[block];
            let found = candidates.iter().rev().find(|value| is(**value, block, bytes)).copied();
            match found {
                Some(found) => *candidates = vec![found],
                None => {
                    bail!("block {block} holds {}, and may hold {candidates:?} only", describe(block, bytes))
                }
            }
        }
        self.refused.clear();
        Ok(())
    }

    /// The content, where every block has one value only.
    pub fn settled(&self) -> Option<Vec<Value>> {
        self.candidates.iter().map(|candidates| (candidates.len() == 1).then(|| candidates[0])).collect()
    }
}

/// The content of a disk of which `data` of every `of` blocks have patterns of this epoch.
pub fn content(blocks: usize, epoch: u64, data: usize, of: usize) -> Vec<Value> {
    let value = |block| match block % of < data {
        true => Value::Pattern { sequence: 0, epoch },
        false => Value::Zero,
    };
    (0..blocks).map(value).collect()
}

/// The bytes of a content.
pub fn bytes(content: &[Value]) -> Vec<u8> {
    content.iter().enumerate().flat_map(|(block, value)| bytes_of(*value, block)).collect()
}

/// Compares bytes that were read from `first` on with a content; says what is wrong.
pub fn compare(content: &[Value], first: usize, bytes: &[u8]) -> Result<()> {
    for (block, bytes) in (first..).zip(bytes.chunks(BLOCK)) {
        if !is(content[block], block, bytes) {
            bail!("block {block} holds {}, and must hold {:?}", describe(block, bytes), content[block]);
        }
    }
    Ok(())
}

fn is(value: Value, block: usize, bytes: &[u8]) -> bool {
    bytes == bytes_of(value, block)
}

/// Address, sequence, epoch, filler made of them, and a BLAKE3 checksum of all of it.
fn bytes_of(value: Value, block: usize) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    let Value::Pattern { sequence, epoch } = value else { return bytes };
    let mut word = block as u64 ^ sequence.rotate_left(20) ^ epoch.rotate_left(44);
    for (place, field) in bytes[..BLOCK - CHECKSUM].chunks_exact_mut(8).zip(0u64..) {
        let value = match field {
            0 => block as u64,
            1 => sequence,
            2 => epoch,
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
    if bytes.len() != BLOCK {
        format!("{} bytes", bytes.len())
    } else if bytes.iter().all(|byte| *byte == 0) {
        "zeros".to_owned()
    } else if blake3::hash(&bytes[..BLOCK - CHECKSUM]).as_bytes() == &bytes[BLOCK - CHECKSUM..] {
        let place = if field(0) == block as u64 { "" } else { " of another block" };
        format!("the whole pattern{place} of write {} in epoch {}", field(1), field(2))
    } else if field(0) == block as u64 {
        format!("a damaged pattern that begins as write {} in epoch {}", field(1), field(2))
    } else {
        "bytes that are no pattern".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_a_flush_old_and_new_are_allowed_and_the_one_that_is_seen_stays() {
        let mut ledger = Ledger::new(&content(2, 7, 1, 2));
        let before = bytes(&content(2, 7, 1, 2));
        let mut first = before.clone();
        first[..BLOCK].copy_from_slice(&ledger.write(0, 8));
        ledger.write(0, 8);
        ledger.clone().observe(&before).unwrap();
        ledger.observe(&first).unwrap();
        assert!(ledger.observe(&before).is_err(), "it was overwritten");
        assert!(ledger.settled().is_some());
    }

    #[test]
    fn after_a_flush_only_the_newest_value_will_do() {
        let mut ledger = Ledger::new(&content(1, 7, 1, 1));
        let first = ledger.write(0, 8);
        let second = ledger.write(0, 8);
        assert!(ledger.settled().is_none());
        ledger.flushed();
        let lost = ledger.clone().observe(&first).unwrap_err().to_string();
        assert!(lost.contains("write 1 in epoch 8"), "{lost}");
        ledger.observe(&second).unwrap();
    }

    #[test]
    fn a_flush_says_nothing_of_a_write_that_was_refused() {
        let mut ledger = Ledger::new(&content(2, 7, 2, 2));
        let mut disk = bytes(&content(2, 7, 2, 2));
        disk[BLOCK..].copy_from_slice(&ledger.write(1, 8));
        let refused = [ledger.write(0, 8), ledger.write(1, 8)];
        ledger.refused(2);
        ledger.flushed();
        assert!(ledger.settled().is_none());
        ledger.clone().observe(&disk).unwrap();
        disk[..BLOCK].copy_from_slice(&refused[0]);
        ledger.observe(&disk).unwrap();
        assert!(ledger.settled().is_some());
        let last = ledger.write(1, 9);
        ledger.flushed();
        assert!(ledger.clone().observe(&disk).is_err(), "what was done later is there");
        disk[BLOCK..].copy_from_slice(&last);
        ledger.observe(&disk).unwrap();
    }

    #[test]
    fn wrong_bytes_are_called_what_they_are() {
        let right = content(4, 3, 3, 4);
        let mut read = bytes(&right);
        compare(&right, 0, &read).unwrap();
        read[2 * BLOCK + 100] ^= 1;
        let said = compare(&right, 0, &read).unwrap_err().to_string();
        assert!(said.contains("block 2") && said.contains("damaged"), "{said}");
        let said = compare(&right, 1, &read[..BLOCK]).unwrap_err().to_string();
        assert!(said.contains("of another block"), "{said}");
    }
}
