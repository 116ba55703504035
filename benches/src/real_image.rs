//! A disk image with real content: the files of `/usr`, laid out in runs with holes between.
//!
//! Random bytes would flatter whoever does not compress or look for zeros, so the content is what
//! a system disk holds: whole files, each beginning at a 4 KiB block, in runs of 1 to 64 MiB.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The share of the disk that is data: 2.6 of 4 GiB, as in the reference figures.
const DATA_SHARE: (u64, u64) = (13, 20);
/// Lengths of the runs of data in MiB, taken in turn.
const RUNS_MIB: [u64; 8] = [1, 24, 3, 64, 9, 2, 40, 13];
const BLOCK_BYTES: u64 = 4096;

/// Makes the image of `size_bytes` (a multiple of 4 KiB) in `directory` unless it is there
/// already; answers its path.
pub fn prepare(directory: &Path, size_bytes: u64) -> Result<PathBuf> {
    let path = directory.join(format!("real-{}M.raw", size_bytes >> 20));
    if path.metadata().is_ok_and(|metadata| metadata.len() == size_bytes) {
        return Ok(path);
    }
    fs::create_dir_all(directory)?;
    let unfinished = path.with_extension("unfinished");
    eprintln!("making {} from the files in /usr", path.display());
    let file = File::create(&unfinished)?;
    file.set_len(size_bytes)?;
    fill(&file, size_bytes, &mut Content::of(Path::new("/usr"))?)?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    Ok(path)
}

fn fill(file: &File, size_bytes: u64, content: &mut Content) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    for run_mib in RUNS_MIB.iter().cycle() {
        let end = (at + (run_mib << 20)).min(size_bytes);
        let hole = (end - at) * (DATA_SHARE.1 - DATA_SHARE.0) / DATA_SHARE.0;
        while at < end {
            let piece = &mut buffer[..(end - at).min(1 << 20) as usize];
            content.read_full(piece)?;
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        at += hole / BLOCK_BYTES * BLOCK_BYTES;
        if at >= size_bytes {
            break;
        }
    }
    Ok(())
}

/// The bytes of many files one after the other, each filled up to whole blocks; begins again at
/// the end.
struct Content {
    files: Vec<PathBuf>,
    next: usize,
    open: Option<File>,
    position: u64,
}

impl Content {
    fn of(directory: &Path) -> Result<Self> {
        let mut files = Vec::new();
        collect(directory, &mut files).with_context(|| format!("cannot list {}", directory.display()))?;
        ensure!(!files.is_empty(), "{} has no files", directory.display());
        Ok(Self { files, next: 0, open: None, position: 0 })
    }

    fn read_full(&mut self, buffer: &mut [u8]) -> Result<()> {
        let mut len = 0;
        while len < buffer.len() {
            len += self.read_some(&mut buffer[len..])?;
        }
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(file) = &mut self.open else {
            self.open = File::open(&self.files[self.next % self.files.len()]).ok();
            self.next += 1;
            self.position = 0;
            return Ok(0);
        };
        let read = file.read(buffer)?;
        self.position += read as u64;
        if read > 0 {
            return Ok(read);
        }
        let padding = (self.position.next_multiple_of(BLOCK_BYTES) - self.position) as usize;
        let padding = padding.min(buffer.len());
        buffer[..padding].fill(0);
        self.open = None;
        Ok(padding)
    }
}

/// Lists the regular files below `directory`, in the order of their names.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
