//! Walks all tables of a qcow2 image before anything is read through them.
//!
//! Finds what a cut file or a flipped bit does to the tables: offsets outside the file or inside a
//! cluster, reserved bits, and two things in one cluster. It cannot find a bit that turns one
//! sound table into another (a cluster that reads as zero now): qcow2 has no checksums.
//! QEMU docs/interop/qcow2.txt, "L1 table entry" and "L2 table entry".

use super::header::{Header, damaged, reading};
use crate::reader::ImageError;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bits 9 to 55 of an L1 or a standard L2 entry.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bits 1 to 8 and 56 to 61 of a standard L2 entry, 0 to 8 and 56 to 62 of an L1 entry.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
const COMPRESSED: u64 = 1 << 62;
const READS_ZERO: u64 = 1;
/// 128 TiB at the usual cluster size; the bits for them take 256 MiB of memory.
const MAX_CLUSTERS: u64 = 1 << 31;

/// Refuses an image whose tables cannot be right.
pub(crate) fn check_tables(file: &File, header: &Header) -> Result<(), ImageError> {
    let mut walk = Walk { file, header, used: Used::new(header)? };
    walk.used.take(0, header.cluster_bytes(), "the header")?;
    walk.used.take(header.l1_offset, u64::from(header.l1_entries) * 8, "the L1 table")?;
    let refcount_bytes = u64::from(header.refcount_table_clusters) * header.cluster_bytes();
    walk.used.take(header.refcount_table_offset, refcount_bytes, "the refcount table")?;
    walk.refcount_blocks()?;
    walk.l1()
}

struct Walk<'a> {
    file: &'a File,
    header: &'a Header,
    used: Used,
}

impl Walk<'_> {
    fn refcount_blocks(&mut self) -> Result<(), ImageError> {
        let cluster = self.header.cluster_bytes();
        for number in 0..u64::from(self.header.refcount_table_clusters) {
            for entry in self.table(self.header.refcount_table_offset + number * cluster, cluster)? {
                if entry != 0 {
                    self.used.take(entry, cluster, "a refcount block")?;
                }
            }
        }
        Ok(())
    }

    fn l1(&mut self) -> Result<(), ImageError> {
        let entries = self.table(self.header.l1_offset, u64::from(self.header.l1_entries) * 8)?;
        for (number, entry) in (0..).zip(entries) {
            let disk_offset = number * self.header.l2_reach_bytes();
            if entry & L1_RESERVED != 0 || entry != 0 && entry & OFFSET_MASK == 0 {
                return Err(damaged(format!("L1 entry {number} is {entry:#x}")));
            }
            // Entries past the disk's end are left over from a larger disk: never read.
            if entry & OFFSET_MASK != 0 && disk_offset < self.header.size_bytes {
                let offset = entry & OFFSET_MASK;
                self.used.take(offset, self.header.cluster_bytes(), "an L2 table")?;
                self.l2(offset, disk_offset)?;
            }
        }
        Ok(())
    }

    fn l2(&mut self, table: u64, disk_offset: u64) -> Result<(), ImageError> {
        let cluster = self.header.cluster_bytes();
        for (number, entry) in (0..).zip(self.table(table, cluster)?) {
            let at = disk_offset + number * cluster;
            if entry == 0 || at >= self.header.size_bytes {
                continue;
            }
            match entry & COMPRESSED {
                0 => self.standard(entry, at)?,
                _ => self.compressed(entry, at)?,
            }
        }
        Ok(())
    }

    fn standard(&mut self, entry: u64, at: u64) -> Result<(), ImageError> {
        let offset = entry & OFFSET_MASK;
        let reads_zero = entry & READS_ZERO != 0;
        let impossible =
            entry & L2_RESERVED != 0 || reads_zero && self.header.version == 2 || !reads_zero && offset == 0;
        if impossible {
            return Err(damaged(format!("the L2 entry for offset {at} of the disk is {entry:#x}")));
        }
        if reads_zero {
            return Ok(());
        }
        // Only what lies inside the disk must lie inside the file.
        let len = self.header.cluster_bytes().min(self.header.size_bytes - at);
        self.used.take(offset, len, "data")
    }

    /// Compressed clusters may share clusters of the file, so only their place is checked: they
    /// are given in sectors of 512 bytes, the last of which the file may end in.
    fn compressed(&self, entry: u64, at: u64) -> Result<(), ImageError> {
        let offset_bits = 62 - (self.header.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        let more_sectors = (entry & !COMPRESSED) << 1 >> (offset_bits + 1);
        let end = offset / 512 * 512 + (more_sectors + 1) * 512;
        match offset != 0 && end <= self.header.file_bytes.next_multiple_of(512) {
            true => Ok(()),
            false => Err(damaged(format!(
                "the compressed data for offset {at} of the disk lies beyond the end of the file: was it cut off?"
            ))),
        }
    }

    /// Reads a table of big-endian entries that is known to lie in the file.
    fn table(&self, offset: u64, len: u64) -> Result<Vec<u64>, ImageError> {
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(reading)?;
        let entries = bytes.chunks_exact(8);
        Ok(entries.map(|entry| u64::from_be_bytes(entry.try_into().expect("8 bytes"))).collect())
    }
}

/// Which clusters of the file something lies in.
struct Used {
    file_bytes: u64,
    cluster_bits: u32,
    bits: Vec<u64>,
}

impl Used {
    fn new(header: &Header) -> Result<Self, ImageError> {
        let clusters = header.file_bytes.div_ceil(header.cluster_bytes());
        if clusters > MAX_CLUSTERS {
            return Err(ImageError::Unsupported(format!("a file of {clusters} clusters")));
        }
        let bits = vec![0; clusters.div_ceil(64) as usize];
        Ok(Self { file_bytes: header.file_bytes, cluster_bits: header.cluster_bits, bits })
    }

    /// Marks the clusters of a range; refuses one that is not wholly in the file, does not begin
    /// at a cluster, or meets something else.
    fn take(&mut self, offset: u64, len: u64, what: &str) -> Result<(), ImageError> {
        let cluster = 1u64 << self.cluster_bits;
        if !offset.is_multiple_of(cluster) {
            return Err(damaged(format!("{what} at offset {offset} of the file, inside a cluster")));
        }
        let end = offset.checked_add(len).filter(|end| *end <= self.file_bytes);
        let Some(end) = end else {
            return Err(damaged(format!(
                "{what} at offset {offset} lies beyond the end of the file ({} bytes): was it cut off?",
                self.file_bytes
            )));
        };
        for number in offset >> self.cluster_bits..end.div_ceil(cluster) {
            let (word, bit) = (&mut self.bits[number as usize / 64], 1 << (number % 64));
            if *word & bit != 0 {
                return Err(damaged(format!("two things lie in cluster {number}, one of them is {what}")));
            }
            *word |= bit;
        }
        Ok(())
    }
}
