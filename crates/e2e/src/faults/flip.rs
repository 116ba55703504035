//! A disk that gives other bytes back than were written: under the page cache, as rot is.

use super::random::Random;
use anyhow::{Context, Result, ensure};
use rustix::fs::{OFlags, SeekFrom, seek};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What direct writes must be aligned to on any disk.
const SECTOR: u64 = 4096;

/// A sector of a layer's file with one bit that is not what it was.
#[derive(Clone, Debug)]
pub struct Flipped {
    file: PathBuf,
    offset: u64,
    before: Vec<u8>,
}

/// A piece of memory that direct reads and writes take.
#[repr(C, align(4096))]
struct Sector([u8; SECTOR as usize]);

/// Flips a bit in `count` places of layers' files of the store at `store`.
pub fn flip(store: &Path, count: usize, random: &mut Random) -> Result<Vec<Flipped>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for layer in std::fs::read_dir(store.join("layers"))? {
        let file = layer?.path().join("data");
        if first_data(&file).is_some() {
            files.push(file);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "the store {} has no layers", store.display());
    (0..count).map(|_| flip_one(&files[random.index(files.len())], random)).collect()
}

impl Flipped {
    /// Whether the disk gives the right bytes again, or the file is gone.
    pub fn is_mended(&self) -> bool {
        match self.read() {
            Ok(now) => now == self.before,
            Err(_) => !self.file.exists(),
        }
    }

    fn read(&self) -> Result<Vec<u8>> {
        let mut sector = Sector([0; SECTOR as usize]);
        direct(&self.file)?.read_exact_at(&mut sector.0, self.offset)?;
        Ok(sector.0.to_vec())
    }
}

fn flip_one(path: &Path, random: &mut Random) -> Result<Flipped> {
    let file = direct(path)?;
    let begin = first_data(path).context("the layer has data")? / SECTOR * SECTOR;
    let end = seek(&file, SeekFrom::Hole(begin))?;
    let sectors = ((end - begin) / SECTOR).max(1);
    let offset = begin + random.below(sectors) * SECTOR;
    let mut sector = Sector([0; SECTOR as usize]);
    file.read_exact_at(&mut sector.0, offset)?;
    let before = sector.0.to_vec();
    sector.0[random.index(SECTOR as usize)] ^= 1 << random.below(8);
    file.write_all_at(&sector.0, offset)?;
    Ok(Flipped { file: path.to_owned(), offset, before })
}

/// Reads and writes the disk itself, and throws out of the page cache what it has of the place.
fn direct(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(OFlags::DIRECT.bits() as i32);
    options.open(path).with_context(|| path.display().to_string())
}

fn first_data(path: &Path) -> Option<u64> {
    seek(File::open(path).ok()?, SeekFrom::Data(0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_other_until_it_is_written_back() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let layer = folder.path().join("layers/a");
        std::fs::create_dir_all(&layer).unwrap();
        let bytes: Vec<u8> = (0..65_536u32).map(|n| n as u8).collect();
        std::fs::write(layer.join("data"), &bytes).unwrap();
        let flipped = flip(folder.path(), 1, &mut Random::new(1, 1)).unwrap();
        let now = std::fs::read(layer.join("data")).unwrap();
        let bits: u32 = now.iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(bits, 1);
        assert!(!flipped[0].is_mended());
        std::fs::write(layer.join("data"), &bytes).unwrap();
        assert!(flipped[0].is_mended());
    }
}
