//! What every [`BlockIo`] promises, as a suite that every implementation runs in its tests.
//!
//! Everything here panics where a promise is broken. The requests are the same in each run: a
//! failure can be repeated by running the test again.

use crate::block_io::{Access, BlockError, BlockIo, ExtentKind, Piece};
use crate::mapping::copy_mapped;
use model::ByteRange;

/// Requests of each kind in one run; enough for every pair of neighbours to meet, by eye.
const ROUNDS: usize = 300;

/// Checks a disk that must have exactly these bytes and refuse every change.
pub fn read_only(disk: &dyn BlockIo, expected: &[u8]) {
    assert_eq!(disk.geometry().access, Access::ReadOnly);
    reads(disk, expected);
    let range = ByteRange::new(0, 512);
    assert_eq!(disk.write_at(0, &[1; 512]), Err(BlockError::ReadOnly));
    assert_eq!(disk.trim(range), Err(BlockError::ReadOnly));
    assert_eq!(disk.write_zeroes(range), Err(BlockError::ReadOnly));
    assert_eq!(disk.flush(), Ok(()));
    reads(disk, expected);
}

/// Checks a writable disk that has these bytes now; it has others afterwards.
pub fn writable(disk: &dyn BlockIo, expected: &[u8]) {
    assert_eq!(disk.geometry().access, Access::ReadWrite);
    let mut model = expected.to_vec();
    let mut numbers = Numbers(7);
    reads(disk, &model);
    for round in 0..ROUNDS {
        change(disk, &mut model, &mut numbers);
        let range = numbers.range(model.len());
        same(disk, &model, range);
        if round % 50 == 0 {
            disk.flush().expect("a healthy disk flushes");
        }
    }
    writes_outside_are_refused(disk, model.len() as u64);
    reads(disk, &model);
}

/// Checks reads, extents and refusals against the disk's bytes.
pub fn reads(disk: &dyn BlockIo, expected: &[u8]) {
    let size = expected.len() as u64;
    assert_eq!(disk.geometry().size_bytes, size);
    let mut numbers = Numbers(3);
    same(disk, expected, ByteRange::new(0, size));
    same(disk, expected, ByteRange::new(size - 1, 1));
    (0..ROUNDS).for_each(|_| same(disk, expected, numbers.range(expected.len())));
    reads_outside_are_refused(disk, size);
    disk.prefetch(ByteRange::new(0, size));
    disk.prefetch(ByteRange::new(u64::MAX, 512));
}

/// The bytes of pieces, however they are held.
pub fn collect(pieces: &[Piece<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Memory(memory) => bytes.extend_from_slice(memory),
            Piece::Zero(len) => bytes.resize(bytes.len() + *len as usize, 0),
            Piece::Mapped(slice) => bytes.extend(copy_mapped(*slice).expect("the file is whole")),
        }
    }
    bytes
}

fn same(disk: &dyn BlockIo, expected: &[u8], range: ByteRange) {
    let expected = &expected[range.offset as usize..][..range.len as usize];
    let mut buffer = vec![0xa5; expected.len()];
    disk.read_at(range.offset, &mut buffer).expect("a healthy disk reads");
    assert!(buffer == expected, "read_at {range:?} differs");
    same_in_memory(disk, expected, range);
    same_extents(disk, expected, range);
}

fn same_in_memory(disk: &dyn BlockIo, expected: &[u8], range: ByteRange) {
    let mut pieces = vec![Piece::Zero(1)];
    if disk.read_resident(range, &mut pieces) {
        assert!(collect(&pieces[1..]) == expected, "read_resident {range:?} differs");
    } else {
        assert_eq!(pieces.len(), 1, "a read_resident that answers false leaves the pieces alone");
    }
}

fn same_extents(disk: &dyn BlockIo, expected: &[u8], range: ByteRange) {
    for limit in [1, 3, 1000] {
        let extents = disk.extents(range, limit).expect("a healthy disk tells its extents");
        assert!(!extents.is_empty() && extents.len() <= limit, "{limit} extents of {range:?}");
        let mut at = 0;
        for extent in extents {
            let end = at + extent.len as usize;
            assert!(extent.len > 0 && end <= expected.len(), "extents stay inside {range:?}");
            let zero = extent.kind == ExtentKind::Data || model::hash::is_zero(&expected[at..end]);
            assert!(zero, "a hole in {range:?} has data");
            at = end;
        }
    }
}

fn reads_outside_are_refused(disk: &dyn BlockIo, size: u64) {
    for (offset, len) in [(size, 1), (size - 1, 2), (u64::MAX, 1), (u64::MAX - 511, 512)] {
        let mut buffer = vec![0; len];
        assert_eq!(disk.read_at(offset, &mut buffer), Err(BlockError::OutOfRange));
        let range = ByteRange::new(offset, len as u64);
        assert!(!disk.read_resident(range, &mut Vec::new()));
        assert_eq!(disk.extents(range, 1), Err(BlockError::OutOfRange));
    }
}

fn writes_outside_are_refused(disk: &dyn BlockIo, size: u64) {
    for (offset, len) in [(size, 1), (size - 1, 2), (u64::MAX, 1)] {
        let range = ByteRange::new(offset, len as u64);
        assert_eq!(disk.write_at(offset, &vec![1; len]), Err(BlockError::OutOfRange));
        assert_eq!(disk.trim(range), Err(BlockError::OutOfRange));
        assert_eq!(disk.write_zeroes(range), Err(BlockError::OutOfRange));
    }
}

/// Makes one change to the disk and to the bytes that it should have.
fn change(disk: &dyn BlockIo, model: &mut [u8], numbers: &mut Numbers) {
    let range = numbers.range(model.len());
    let place = &mut model[range.offset as usize..][..range.len as usize];
    match numbers.below(5) {
        0 => {
            disk.trim(range).expect("a healthy disk trims");
            place.fill(0);
        }
        1 => {
            disk.write_zeroes(range).expect("a healthy disk writes zeros");
            place.fill(0);
        }
        _ => {
            place.iter_mut().for_each(|byte| *byte = numbers.below(256) as u8);
            disk.write_at(range.offset, place).expect("a healthy disk writes");
        }
    }
}

/// A small generator of the same numbers in every run (xorshift, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// A range inside a disk: whole sectors in half of the cases, any bytes in the others.
    fn range(&mut self, size: usize) -> ByteRange {
        let size = size as u64;
        let unit = if self.below(2) == 0 { 512 } else { 1 };
        let offset = self.below(size / unit) * unit;
        let longest = (size - offset).min(200_000).min(1 << (9 + self.below(9)));
        let len = (1 + self.below(longest)).next_multiple_of(unit).min(size - offset);
        ByteRange::new(offset, len)
    }
}
