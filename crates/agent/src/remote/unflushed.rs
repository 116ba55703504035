//! What a server has acknowledged but not yet made durable, kept to be sent again.
//!
//! A server that is killed keeps what it acknowledged in its kernel's memory; one that loses power
//! does not. So the device keeps these changes until a flush covers them, and sends them again
//! over every new connection. Kept by range, the newest change of a byte only: sent again in any
//! order they give the same disk.

use model::ByteRange;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an entry costs beside its bytes, rounded up by eye: the map's node and the allocator.
const ENTRY_COST: u64 = 128;

/// What a range is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// These bytes.
    Bytes(Arc<Vec<u8>>),
    /// Zeros.
    Zeroes,
    /// Let go.
    Trimmed,
}

impl Content {
    /// The part of `len` bytes that begins `skip` bytes into this.
    fn part(&self, skip: u64, len: u64) -> Self {
        match self {
            // Copied, so that a small rest does not keep a large write in memory.
            Self::Bytes(bytes) => Self::Bytes(Arc::new(bytes[skip as usize..(skip + len) as usize].to_vec())),
            other => other.clone(),
        }
    }

    fn memory(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64 + ENTRY_COST,
            Self::Zeroes | Self::Trimmed => ENTRY_COST,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    len: u64,
    content: Content,
    mark: Mark,
}

/// A point in the order of acknowledgements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u64);

/// The changes, by where they begin; no two overlap.
#[derive(Debug, Default)]
pub(super) struct Unflushed {
    entries: BTreeMap<u64, Entry>,
    memory_bytes: u64,
    now: Mark,
}

impl Unflushed {
    /// Takes in a change that was just acknowledged, over older ones of the same bytes.
    pub(super) fn put(&mut self, range: ByteRange, content: Content) {
        self.cut(range);
        self.now.0 += 1;
        self.insert(range.offset, Entry { len: range.len, content, mark: self.now });
    }

    /// Forgets about `range`: what is there now is durable.
    pub(super) fn cut(&mut self, range: ByteRange) {
        let end = range.offset + range.len;
        let before = self.entries.range(..range.offset).next_back().map(|(start, _)| *start);
        let inside: Vec<u64> = before
            .into_iter()
            .chain(self.entries.range(range.offset..end).map(|(start, _)| *start))
            .collect();
        for start in inside {
            self.cut_entry(start, range.offset, end);
        }
    }

    fn cut_entry(&mut self, start: u64, from: u64, to: u64) {
        let entry_end = start + self.entries[&start].len;
        if entry_end <= from {
            return;
        }
        let entry = self.remove(start);
        let mut keep = |part_start: u64, part_end: u64| {
            if part_start < part_end {
                let len = part_end - part_start;
                let content = entry.content.part(part_start - start, len);
                self.insert(part_start, Entry { len, content, mark: entry.mark });
            }
        };
        keep(start, from);
        keep(to, entry_end);
    }

    fn insert(&mut self, start: u64, entry: Entry) {
        self.memory_bytes += entry.content.memory();
        let overlapped = self.entries.insert(start, entry);
        assert!(overlapped.is_none(), "what was there has been cut");
    }

    fn remove(&mut self, start: u64) -> Entry {
        let entry = self.entries.remove(&start).expect("the caller has found it");
        self.memory_bytes -= entry.content.memory();
        entry
    }

    /// Where the order of acknowledgements is now: a flush that is sent now covers all up to here.
    pub(super) fn mark(&self) -> Mark {
        self.now
    }

    /// Forgets what was acknowledged up to `mark`: a flush has made it durable.
    pub(super) fn flushed(&mut self, mark: Mark) {
        let done: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| entry.mark <= mark).map(|(start, _)| *start).collect();
        for start in done {
            self.remove(start);
        }
    }

    /// The memory held, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Everything that must be sent again.
    pub(super) fn all(&self) -> impl Iterator<Item = (ByteRange, &Content)> {
        self.entries.iter().map(|(start, entry)| (ByteRange::new(*start, entry.len), &entry.content))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.memory_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: u8, len: usize) -> Content {
        Content::Bytes(Arc::new(vec![value; len]))
    }

    /// What sending everything again would make of a disk of zeros.
    fn disk(unflushed: &Unflushed, len: usize) -> Vec<u8> {
        let mut disk = vec![0; len];
        for (range, content) in unflushed.all() {
            let at = range.offset as usize..(range.offset + range.len) as usize;
            match content {
                Content::Bytes(bytes) => disk[at].copy_from_slice(bytes),
                Content::Zeroes | Content::Trimmed => disk[at].fill(0),
            }
        }
        disk
    }

    #[test]
    fn the_newest_change_of_each_byte_is_kept() {
        let (mut unflushed, mut expected) = (Unflushed::default(), vec![0; 1000]);
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for value in 1..=250u8 {
            let offset = random(900);
            let len = 1 + random(100);
            let at = offset as usize..(offset + len) as usize;
            if random(4) == 0 {
                expected[at].fill(0);
                unflushed.put(ByteRange::new(offset, len), Content::Zeroes);
            } else {
                expected[at].fill(value);
                unflushed.put(ByteRange::new(offset, len), bytes(value, len as usize));
            }
            assert_eq!(disk(&unflushed, 1000), expected);
        }
    }

    #[test]
    fn a_flush_forgets_what_was_there_when_it_was_sent_and_nothing_newer() {
        let mut unflushed = Unflushed::default();
        unflushed.put(ByteRange::new(0, 100), bytes(1, 100));
        let mark = unflushed.mark();
        unflushed.put(ByteRange::new(50, 10), bytes(2, 10));
        unflushed.flushed(mark);
        let left: Vec<_> = unflushed.all().map(|(range, _)| range).collect();
        assert_eq!(left, [ByteRange::new(50, 10)]);
        assert_eq!(unflushed.memory_bytes(), 10 + ENTRY_COST);
    }

    #[test]
    fn memory_is_counted_down_to_nothing() {
        let mut unflushed = Unflushed::default();
        unflushed.put(ByteRange::new(0, 4096), bytes(1, 4096));
        unflushed.put(ByteRange::new(1000, 8), Content::Trimmed);
        unflushed.cut(ByteRange::new(0, 4096));
        assert_eq!((unflushed.memory_bytes(), unflushed.all().count()), (0, 0));
    }
}
