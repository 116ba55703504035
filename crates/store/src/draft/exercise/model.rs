//! What a draft may hold after a crash: for each sector the confirmed bytes and those written since.

use crate::draft::blocks::BLOCK_BYTES;
use crate::files::simulated::SECTOR_BYTES;
use model::ByteRange;
use std::collections::BTreeMap;

const BLOCK: usize = BLOCK_BYTES as usize;

/// The bytes of a disk in time.
pub(super) struct Model {
    /// What a flush or checkpoint confirmed last.
    confirmed: Vec<u8>,
    present: Vec<u8>,
    /// By block: its bytes after each change since then.
    since: BTreeMap<usize, Vec<Vec<u8>>>,
    /// By block: whether it was the draft's own when it was confirmed, so that it is overwritten
    /// in place, sector by sector.
    own: Vec<bool>,
    /// By block: whether it is the draft's own now.
    own_now: Vec<bool>,
    /// The blocks before the last write, for one that was refused.
    undo: Vec<(usize, Vec<u8>, bool)>,
    writes: u64,
}

impl Model {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let blocks = bytes.len().div_ceil(BLOCK);
        Self {
            confirmed: bytes.clone(),
            present: bytes,
            since: BTreeMap::new(),
            own: vec![false; blocks],
            own_now: vec![false; blocks],
            undo: Vec::new(),
            writes: 0,
        }
    }

    /// Bytes for a write that no other write has, already noted as written.
    pub(super) fn write(&mut self, range: ByteRange) -> Vec<u8> {
        self.writes += 1;
        let words = range.len as usize / 8;
        let word = |at: usize| (self.writes << 20 | at as u64).to_le_bytes();
        let bytes: Vec<u8> = (0..words).flat_map(word).collect();
        self.change(range, &bytes, true);
        bytes
    }

    /// Notes that a range was made zero.
    pub(super) fn zero(&mut self, range: ByteRange) {
        self.change(range, &vec![0; range.len as usize], false);
    }

    fn change(&mut self, range: ByteRange, bytes: &[u8], is_write: bool) {
        self.undo.clear();
        let (start, end) = (range.offset as usize, (range.offset + range.len) as usize);
        for block in start / BLOCK..end.div_ceil(BLOCK) {
            let place = self.place(block);
            self.undo.push((block, self.present[place.clone()].to_vec(), self.own_now[block]));
            let (from, to) = (start.max(place.start), end.min(place.end));
            self.present[from..to].copy_from_slice(&bytes[from - start..to - start]);
            // A part made zero may leave the block below or make it the draft's own: the weaker
            // promise is checked.
            let partly = from > place.start || to < place.end;
            self.own_now[block] = is_write || partly;
            self.since.entry(block).or_default().push(self.present[place].to_vec());
        }
    }

    /// The last write was refused and left nothing.
    pub(super) fn undo(&mut self) {
        for (block, bytes, own) in std::mem::take(&mut self.undo) {
            let place = self.place(block);
            self.present[place].copy_from_slice(&bytes);
            self.own_now[block] = own;
            self.since.get_mut(&block).and_then(Vec::pop);
        }
    }

    /// A flush was confirmed. Where a change failed half-way, both its outcomes stay possible.
    pub(super) fn confirm(&mut self) {
        self.confirmed.clone_from(&self.present);
        self.since.clear();
        self.own.clone_from(&self.own_now);
    }

    /// A checkpoint was confirmed: nothing is the draft's own any more.
    pub(super) fn checkpointed(&mut self) {
        self.confirm();
        self.own.fill(false);
        self.own_now.fill(false);
    }

    /// Whether the last change was taken back.
    pub(super) fn nothing_to_undo(&self) -> bool {
        self.undo.is_empty()
    }

    /// Whether `found` is what was written last, but for sectors of `range` that may be older.
    pub(super) fn is_near(&self, found: &[u8], range: ByteRange) -> bool {
        let blocks = range.offset as usize / BLOCK..(range.offset + range.len) as usize / BLOCK + 1;
        let before = |at: usize| {
            let mut blocks = self.undo.iter().map(|(block, bytes, _)| (self.place(*block), bytes));
            blocks.find(|(place, _)| place.contains(&at)).map(|(place, bytes)| &bytes[at - place.start..])
        };
        let mut sectors = (0..).step_by(SECTOR_BYTES).zip(found.chunks(SECTOR_BYTES));
        sectors.all(|(at, sector)| {
            same(&self.present, at, sector)
                || blocks.contains(&(at / BLOCK)) && before(at).is_some_and(|bytes| bytes.starts_with(sector))
        })
    }

    /// Takes what was found in `range` after a change that failed for what is there.
    pub(super) fn looked(&mut self, found: Vec<u8>, range: ByteRange) {
        let (start, end) = (range.offset as usize / BLOCK, (range.offset + range.len) as usize);
        for block in start..end.div_ceil(BLOCK) {
            let place = self.place(block);
            self.since.entry(block).or_default().push(found[place.clone()].to_vec());
            self.own_now[block] = true;
        }
        self.present = found;
    }

    /// Whether `found` is what was written last everywhere.
    pub(super) fn is_present(&self, found: &[u8]) -> bool {
        self.present == found
    }

    /// Says where `found` is not what a draft may hold.
    pub(super) fn check(&self, found: &[u8]) -> Result<(), String> {
        for block in 0..self.own.len() {
            let place = self.place(block);
            let (confirmed, found) = (&self.confirmed[place.clone()], &found[place]);
            let since = self.since.get(&block).map(Vec::as_slice).unwrap_or_default();
            if found == confirmed {
                continue;
            }
            let of_since = |at: usize, sector: &[u8]| since.iter().any(|bytes| same(bytes, at, sector));
            let mut sectors = (0..).step_by(SECTOR_BYTES).zip(found.chunks(SECTOR_BYTES));
            let fits = sectors
                .all(|(at, sector)| of_since(at, sector) || self.own[block] && same(confirmed, at, sector));
            if !fits {
                return Err(format!(
                    "block {block} has bytes that it may not have ({} changes)",
                    since.len()
                ));
            }
        }
        Ok(())
    }

    /// Takes what was found to be there for good.
    pub(super) fn settle(&mut self, found: Vec<u8>) {
        self.present = found;
        self.confirm();
        // Which blocks are the draft's own is not known after a crash.
        self.own.fill(true);
        self.own_now.fill(true);
    }

    fn place(&self, block: usize) -> std::ops::Range<usize> {
        block * BLOCK..((block + 1) * BLOCK).min(self.confirmed.len())
    }
}

fn same(bytes: &[u8], at: usize, sector: &[u8]) -> bool {
    bytes[at..].starts_with(sector)
}
