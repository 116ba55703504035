//! A set of chunks of one disk: one bit a chunk, scanned a word at a time.

use model::ChunkIndex;

/// What a peer says of chunks past this one is ignored, so that what is kept is bounded: 4 TiB of
/// disk, a bitmap of 8 MiB.
const MAX_CHUNKS: u32 = 1 << 26;

/// A set of chunks, from 0 to its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSet {
    words: Vec<u64>,
    len: u32,
    count: u32,
}

impl ChunkSet {
    /// No chunk of a disk of `len` chunks.
    pub fn empty(len: u32) -> Self {
        Self { words: vec![0; len.div_ceil(64) as usize], len, count: 0 }
    }

    /// All chunks of a disk of `len` chunks.
    pub fn full(len: u32) -> Self {
        let mut set = Self::empty(len);
        (0..len).for_each(|chunk| set.insert(ChunkIndex(chunk)));
        set
    }

    /// These chunks of a disk of `len` chunks; those past its end are left out.
    pub fn of(len: u32, chunks: impl IntoIterator<Item = ChunkIndex>) -> Self {
        let mut set = Self::empty(len);
        chunks.into_iter().for_each(|chunk| set.insert(chunk));
        set
    }

    /// Whether the chunk is in it.
    pub fn contains(&self, chunk: ChunkIndex) -> bool {
        self.word(chunk.0 as usize / 64) >> (chunk.0 % 64) & 1 == 1
    }

    /// Puts a chunk in; one past the end of the disk is ignored.
    pub fn insert(&mut self, chunk: ChunkIndex) {
        if chunk.0 < self.len && !self.contains(chunk) {
            self.words[chunk.0 as usize / 64] |= 1 << (chunk.0 % 64);
            self.count += 1;
        }
    }

    /// Takes a chunk out; says whether it was in.
    pub fn remove(&mut self, chunk: ChunkIndex) -> bool {
        let was_in = self.contains(chunk);
        if was_in {
            self.words[chunk.0 as usize / 64] &= !(1 << (chunk.0 % 64));
            self.count -= 1;
        }
        was_in
    }

    /// How many chunks are in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether no chunk is in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many chunks the disk has.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The chunks in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = ChunkIndex> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| bits(at, *word)).map(ChunkIndex)
    }

    /// The 64 chunks from `64 * at` as bits, lowest first; none past the end.
    pub(super) fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }

    /// Replaces what is said of the chunks from `first` by `bytes`, one bit a chunk, lowest first.
    ///
    /// The set grows by what the bytes say and never by `first`: a piece that begins past the end
    /// is ignored, so that a peer's number allocates nothing.
    pub(super) fn replace(&mut self, first: ChunkIndex, bytes: &[u8]) {
        if first.0 > self.len {
            return;
        }
        let bytes = &bytes[..bytes.len().min((MAX_CHUNKS.saturating_sub(first.0) / 8) as usize)];
        let end = u64::from(first.0) + bytes.len() as u64 * 8;
        self.len = self.len.max(end.min(u64::from(u32::MAX)) as u32);
        self.words.resize(self.len.div_ceil(64) as usize, 0);
        for (at, byte) in bytes.iter().enumerate() {
            for bit in 0..8 {
                let Some(chunk) = first.0.checked_add(at as u32 * 8 + bit) else { return };
                match byte >> bit & 1 {
                    1 => self.insert(ChunkIndex(chunk)),
                    _ => _ = self.remove(ChunkIndex(chunk)),
                }
            }
        }
    }
}

/// The numbers of the bits that are set in the word at `at`.
pub(super) fn bits(at: usize, word: u64) -> impl Iterator<Item = u32> {
    let mut left = word;
    std::iter::from_fn(move || {
        let bit = (left != 0).then(|| left.trailing_zeros())?;
        left &= left - 1;
        Some(at as u32 * 64 + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_go_in_and_out() {
        let mut set = ChunkSet::of(130, [0, 64, 129, 130].map(ChunkIndex));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 64, 129].map(ChunkIndex));
        assert!(set.remove(ChunkIndex(64)) && !set.remove(ChunkIndex(64)));
        assert_eq!(set.count(), 2);
        assert_eq!(ChunkSet::full(130).count(), 130);
    }

    #[test]
    fn a_piece_replaces_its_part_and_one_past_the_end_grows_nothing() {
        let mut set = ChunkSet::empty(0);
        set.replace(ChunkIndex(0), &[0b101, 0xff]);
        set.replace(ChunkIndex(8), &[0b10]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2, 9].map(ChunkIndex));
        set.replace(ChunkIndex(u32::MAX - 1), &[1]);
        assert_eq!(set.len(), 16);
    }
}
