//! The raw writer: the disk's bytes, with holes where it is zero.

use super::{PIECE_BYTES, failed};
use crate::reader::{ImageError, ImageReader, RunKind};
use model::hash::is_zero;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Zeros are left out in steps of this many bytes: the block size of common file systems.
const BLOCK_BYTES: usize = 4096;

/// Writes `source` into the empty `file`.
pub(super) fn write(source: &dyn ImageReader, file: &File) -> Result<(), ImageError> {
    let size = source.size_bytes();
    file.set_len(size).map_err(failed)?;
    let mut buffer = vec![0; PIECE_BYTES as usize];
    let mut at = 0;
    while at < size {
        let limit = PIECE_BYTES - at % PIECE_BYTES;
        let run = match source.run_at(at, size - at)? {
            run if run.kind == RunKind::Hole => run.len,
            run => {
                let len = run.len.min(limit);
                let piece = &mut buffer[..len as usize];
                source.read_at(at, piece)?;
                write_data(file, at, piece)?;
                len
            }
        };
        at += run;
    }
    Ok(())
}

/// Writes the blocks of `piece` that are not zero, in as few calls as their order allows.
fn write_data(file: &File, offset: u64, piece: &[u8]) -> Result<(), ImageError> {
    let blocks: Vec<&[u8]> = piece.chunks(BLOCK_BYTES).collect();
    let mut at = 0;
    for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let end = at + run.iter().map(|block| block.len()).sum::<usize>();
        if !is_zero(run[0]) {
            file.write_all_at(&piece[at..end], offset + at as u64).map_err(failed)?;
        }
        at = end;
    }
    Ok(())
}
