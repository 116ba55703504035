//! The qcow2 writer: version 3, clusters of 64 KiB, 16-bit refcounts, nothing optional.
//!
//! One pass over the disk. The file, in clusters: header; L1 table; then for each 512 MiB of disk
//! that is not all zero its data clusters followed by their L2 table; refcount table; refcount
//! blocks. Every cluster is used once. QEMU docs/interop/qcow2.txt.

use super::{PIECE_BYTES, failed};
use crate::reader::{ImageError, ImageReader, RunKind};
use model::hash::is_zero;
use std::fs::File;
use std::os::unix::fs::FileExt;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of an L2 table and of the part of the L1 table that one cluster holds.
const TABLE_ENTRIES: u64 = CLUSTER / 8;
/// Bytes of disk that one L2 table maps: 512 MiB.
const L2_REACH: u64 = TABLE_ENTRIES * CLUSTER;
/// Refcounts of 16 bits that one cluster holds.
const REFCOUNTS: u64 = CLUSTER / 2;
/// "The refcount is exactly one": set in every entry here.
const COPIED: u64 = 1 << 63;

/// Writes `source` into the empty `file`.
pub(super) fn write(source: &dyn ImageReader, file: &File) -> Result<(), ImageError> {
    let size = source.size_bytes();
    let l1_clusters = size.div_ceil(L2_REACH).div_ceil(TABLE_ENTRIES);
    let mut writer = Writer { source, file, size, next_cluster: 1 + l1_clusters };
    let mut l1 = Vec::new();
    for number in 0..size.div_ceil(L2_REACH) {
        l1.push(writer.part(number * L2_REACH)?);
    }
    writer.table(1, &l1)?;
    let refcounts = writer.refcounts()?;
    writer.header(l1.len() as u32, &refcounts)
}

struct Writer<'a> {
    source: &'a dyn ImageReader,
    file: &'a File,
    size: u64,
    next_cluster: u64,
}

/// Where the refcount table went.
struct Refcounts {
    table_cluster: u64,
    table_clusters: u64,
}

impl Writer<'_> {
    /// Writes the 512 MiB from `start` and their L2 table; answers the L1 entry.
    fn part(&mut self, start: u64) -> Result<u64, ImageError> {
        let end = (start + L2_REACH).min(self.size);
        let mut l2 = vec![0; TABLE_ENTRIES as usize];
        let mut buffer = vec![0; PIECE_BYTES as usize];
        let mut at = start;
        while at < end {
            let piece_end = (at + PIECE_BYTES).min(end);
            let run = self.source.run_at(at, end - at)?;
            // Whole pieces inside a hole are not worth a look.
            if run.kind == RunKind::Hole && at + run.len >= piece_end {
                let past = (at + run.len) / PIECE_BYTES * PIECE_BYTES;
                at = if at + run.len >= end { end } else { past.max(piece_end) };
                continue;
            }
            let len = (piece_end - at) as usize;
            self.source.read_at(at, &mut buffer[..len])?;
            buffer[len..].fill(0);
            self.piece(&buffer, &mut l2[((at - start) / CLUSTER) as usize..])?;
            at = piece_end;
        }
        if l2.iter().all(|entry| *entry == 0) {
            return Ok(0);
        }
        let cluster = self.next_cluster;
        self.next_cluster += 1;
        self.table(cluster, &l2)?;
        Ok((cluster * CLUSTER) | COPIED)
    }

    /// Writes the clusters of a piece that are not zero, and enters them into its L2 entries.
    fn piece(&mut self, piece: &[u8], l2: &mut [u64]) -> Result<(), ImageError> {
        let clusters: Vec<&[u8]> = piece.chunks_exact(CLUSTER as usize).collect();
        let mut number = 0;
        for run in clusters.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let end = number + run.len();
            if !is_zero(run[0]) {
                let bytes = &piece[number * CLUSTER as usize..end * CLUSTER as usize];
                self.file.write_all_at(bytes, self.next_cluster * CLUSTER).map_err(failed)?;
                for entry in &mut l2[number..end] {
                    *entry = (self.next_cluster * CLUSTER) | COPIED;
                    self.next_cluster += 1;
                }
            }
            number = end;
        }
        Ok(())
    }

    /// Writes the refcount table and blocks, which count themselves too.
    fn refcounts(&mut self) -> Result<Refcounts, ImageError> {
        let used = self.next_cluster;
        let (mut blocks, mut table_clusters) = (0, 0);
        loop {
            let all = used + blocks + table_clusters;
            let needed = (all.div_ceil(REFCOUNTS), all.div_ceil(REFCOUNTS).div_ceil(TABLE_ENTRIES));
            if needed == (blocks, table_clusters) {
                break;
            }
            (blocks, table_clusters) = needed;
        }
        let first_block = used + table_clusters;
        let table: Vec<u64> = (0..blocks).map(|block| (first_block + block) * CLUSTER).collect();
        self.table(used, &table)?;
        let mut left = used + table_clusters + blocks;
        for block in 0..blocks {
            let count = left.min(REFCOUNTS);
            let mut bytes = vec![0; CLUSTER as usize];
            bytes[..count as usize * 2].chunks_exact_mut(2).for_each(|refcount| refcount[1] = 1);
            self.file.write_all_at(&bytes, (first_block + block) * CLUSTER).map_err(failed)?;
            left -= count;
        }
        Ok(Refcounts { table_cluster: used, table_clusters })
    }

    /// Writes a table of big-endian entries, filled up with zeros to whole clusters.
    fn table(&self, cluster: u64, entries: &[u64]) -> Result<(), ImageError> {
        let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(CLUSTER as usize), 0);
        self.file.write_all_at(&bytes, cluster * CLUSTER).map_err(failed)
    }

    /// Writes the header (see `qcow2/header.rs` for the fields) and the end of its extensions.
    fn header(&self, l1_entries: u32, refcounts: &Refcounts) -> Result<(), ImageError> {
        let mut bytes = vec![0; CLUSTER as usize];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, b"QFI\xfb");
        put(4, &3u32.to_be_bytes());
        put(20, &CLUSTER_BITS.to_be_bytes());
        put(24, &self.size.to_be_bytes());
        put(36, &l1_entries.to_be_bytes());
        put(40, &CLUSTER.to_be_bytes());
        put(48, &(refcounts.table_cluster * CLUSTER).to_be_bytes());
        put(56, &(refcounts.table_clusters as u32).to_be_bytes());
        put(96, &4u32.to_be_bytes());
        put(100, &104u32.to_be_bytes());
        self.file.write_all_at(&bytes, 0).map_err(failed)
    }
}
