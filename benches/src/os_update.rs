//! A system disk before and after an update: an ext4 of real files that the kernel wrote.
//!
//! The update does what a package manager does: files of programs and libraries are replaced (the
//! new one is written beside the old and renamed over it), databases and logs are changed in place
//! in small pieces, some files go and some come. A replaced file is what a compiler makes of a
//! changed source: most of it stays, with other addresses all over, and what follows an insertion is
//! shifted. Everything follows from the file names and sizes: the same tree gives the same pair.

use crate::nbd::boot_script::Numbers;
use anyhow::{Context, Result, ensure};
use model::{CHUNK_SIZE, ChunkHash};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;
/// The virtual size of the disk.
const DISK_BYTES: u64 = 4096 * MIB;
/// What its files hold, at most.
const DATA_BYTES: u64 = 2048 * MIB;
/// Files that the update replaces.
const REPLACED_BYTES: u64 = 110 * MIB;
/// What it changes in place.
const IN_PLACE_BYTES: u64 = 24 * MIB;
/// What it adds.
const ADDED_BYTES: u64 = 15 * MIB;
const BLOCK: usize = 4096;

/// The two images, and what lies between them.
#[derive(Debug)]
pub struct Pair {
    /// Before.
    pub before: PathBuf,
    /// After.
    pub after: PathBuf,
    /// The bytes of every new chunk, one after the other: what the barest of tools would ship.
    pub delta: PathBuf,
    /// The chunks of 64 KiB that are different.
    pub changed_chunks: u64,
    /// Bytes of those that are not zero, each content once, and not on the old disk.
    pub new_bytes: u64,
    /// Runs of changed blocks of 4 KiB: where, and how long.
    pub changes: Vec<(u64, usize)>,
}

impl Pair {
    /// Writes what is different, as `image` has it, into `file`; durable.
    pub fn apply(&self, image: &Path, file: &Path) -> Result<()> {
        let (image, file) = (File::open(image)?, File::options().write(true).open(file)?);
        let mut buffer = Vec::new();
        for (offset, len) in &self.changes {
            buffer.resize(*len, 0);
            image.read_exact_at(&mut buffer, *offset)?;
            file.write_all_at(&buffer, *offset)?;
        }
        Ok(file.sync_all()?)
    }

    /// Fails where `file` differs from `image` in what the update changed.
    pub fn check(&self, image: &Path, file: &Path) -> Result<()> {
        let (image, file) = (File::open(image)?, File::open(file)?);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (offset, len) in &self.changes {
            a.resize(*len, 0);
            b.resize(*len, 0);
            image.read_exact_at(&mut a, *offset)?;
            file.read_exact_at(&mut b, *offset)?;
            ensure!(a == b, "the copy at {offset} is not what it should be");
        }
        Ok(())
    }
}

/// Makes the pair in `directory`, which must be on a real disk; needs root for the loop device.
pub fn prepare(directory: &Path) -> Result<Pair> {
    let (before, after) = (directory.join("before.raw"), directory.join("after.raw"));
    let delta = directory.join("delta.bin");
    if !after.exists() {
        fs::create_dir_all(directory)?;
        let unfinished = directory.join("unfinished.raw");
        eprintln!("making {} from the files in /usr", before.display());
        File::create(&unfinished)?.set_len(DISK_BYTES)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(&unfinished))?;
        mounted(&unfinished, fill)?;
        fs::rename(&unfinished, &before)?;
        run(Command::new("cp").arg("--sparse=always").args([&before, &unfinished]))?;
        mounted(&unfinished, update)?;
        fs::rename(&unfinished, &after)?;
    }
    compare(before, after, delta)
}

fn mounted(image: &Path, body: fn(&Path) -> Result<()>) -> Result<()> {
    let place = image.with_extension("mounted");
    fs::create_dir_all(&place)?;
    run(Command::new("mount").args(["-o", "loop"]).args([image, &place]))
        .context("a file cannot be mounted\nhint: run this as root, on a kernel with loop devices")?;
    let done = body(&place);
    run(Command::new("umount").arg(&place))?;
    fs::remove_dir(&place)?;
    done
}

/// Copies files of `/usr` until there are enough.
fn fill(root: &Path) -> Result<()> {
    let mut left = DATA_BYTES;
    copy_tree(Path::new("/usr"), &root.join("usr"), &mut left)?;
    let log = root.join("var/log");
    fs::create_dir_all(&log)?;
    // What is changed in place: a database of packages, journals.
    for number in 0..8 {
        let mut file = BufWriter::new(File::create(log.join(format!("journal-{number}")))?);
        (0..16 * 1024).try_for_each(|line| file.write_all(&record(number, line, 0)))?;
        file.flush()?;
    }
    Ok(())
}

/// A block of a journal: text with numbers in it.
fn record(file: u64, line: u64, edition: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(file << 40 | line << 8 | edition);
    let mut block = Vec::with_capacity(BLOCK + 128);
    while block.len() < BLOCK {
        let (at, id) = (numbers.below(1 << 40), numbers.below(u64::MAX));
        writeln!(block, "{at:012} host{file} unit-{}.service[{}]: took {id:016x}", id % 97, id % 32768)
            .expect("memory takes it");
    }
    block.truncate(BLOCK);
    block
}

fn copy_tree(from: &Path, to: &Path, left: &mut u64) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(to)?;
    let mut entries = fs::read_dir(from)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &target, left)?;
        } else if kind.is_file() {
            // One that is being replaced at this moment, or that is not for everybody.
            let Ok(len) = entry.metadata().map(|metadata| metadata.len()) else { continue };
            if len <= *left && fs::copy(entry.path(), target).is_ok() {
                *left -= len;
            }
        }
    }
    Ok(())
}

fn update(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    list(&root.join("usr"), &mut files)?;
    ensure!(files.len() > 1000, "/usr has too few files to make a system disk of");
    let mut numbers = Numbers::new(12);
    let mut replaced = 0;
    while replaced < REPLACED_BYTES {
        let at = numbers.below(files.len() as u64) as usize;
        let path = files.swap_remove(at);
        // The largest are data that an update leaves alone.
        if path.metadata()?.len() < 24 * MIB {
            replaced += replace(&path, &mut numbers)?;
        }
    }
    for _ in 0..40 {
        fs::remove_file(files.swap_remove(numbers.below(files.len() as u64) as usize))?;
    }
    change_in_place(root, &mut numbers)?;
    let mut added = BufWriter::new(File::create(root.join("usr/added"))?);
    (0..ADDED_BYTES / BLOCK as u64).try_for_each(|line| added.write_all(&record(99, line, 1)))?;
    Ok(added.flush()?)
}

/// Writes the new edition of a file beside it, and renames it over; answers its length.
fn replace(path: &Path, numbers: &mut Numbers) -> Result<u64> {
    let old = fs::read(path)?;
    let mut new = Vec::with_capacity(old.len() + 4096);
    let mut at = 0;
    while at < old.len() {
        // Between two places that changed: some hundred bytes of unchanged code.
        let same = (16 + numbers.below(600) as usize).min(old.len() - at);
        new.extend_from_slice(&old[at..at + same]);
        at += same;
        match numbers.below(40) {
            0 => (0..numbers.below(64)).for_each(|_| new.push(numbers_byte(at))),
            1 => at = (at + numbers.below(64) as usize).min(old.len()),
            _ if at + 4 <= old.len() => {
                // An address that moved: its high bytes stay.
                new.extend_from_slice(&[(numbers.below(256)) as u8, (numbers.below(256)) as u8]);
                new.extend_from_slice(&old[at + 2..at + 4]);
                at += 4;
            }
            _ => {}
        }
    }
    let beside = path.with_extension("dpkg-new");
    fs::write(&beside, &new)?;
    fs::rename(&beside, path)?;
    Ok(new.len() as u64)
}

fn numbers_byte(at: usize) -> u8 {
    (at as u8).wrapping_mul(31)
}

/// Changes blocks of the journals, one to sixteen at a time, by turns.
fn change_in_place(root: &Path, numbers: &mut Numbers) -> Result<()> {
    let mut changed = 0;
    while changed < IN_PLACE_BYTES {
        let number = numbers.below(8);
        let file = File::options().write(true).open(root.join(format!("var/log/journal-{number}")))?;
        let (first, count) = (numbers.below(16 * 1024 - 16), 1 + numbers.below(16));
        for line in first..first + count {
            file.write_all_at(&record(number, line, 1), line * BLOCK as u64)?;
        }
        changed += count * BLOCK as u64;
    }
    Ok(())
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type()? {
            kind if kind.is_dir() => list(&entry.path(), files)?,
            kind if kind.is_file() && entry.metadata()?.size() > 0 => files.push(entry.path()),
            _ => {}
        }
    }
    Ok(())
}

/// Finds what is different, and writes the bare delta.
fn compare(before: PathBuf, after: PathBuf, delta: PathBuf) -> Result<Pair> {
    let (old, new) = (File::open(&before)?, File::open(&after)?);
    let mut out = BufWriter::new(File::create(&delta)?);
    let (mut a, mut b) = (vec![0; CHUNK_SIZE as usize], vec![0; CHUNK_SIZE as usize]);
    let (mut here, mut fresh) = (HashSet::from([ChunkHash::ZERO]), Vec::new());
    let mut changes: Vec<(u64, usize)> = Vec::new();
    let mut changed_chunks = 0;
    for offset in (0..DISK_BYTES).step_by(CHUNK_SIZE as usize) {
        old.read_exact_at(&mut a, offset)?;
        new.read_exact_at(&mut b, offset)?;
        here.insert(ChunkHash::of(&a));
        if a == b {
            continue;
        }
        changed_chunks += 1;
        fresh.push(ChunkHash::of(&b));
        out.write_all(&b)?;
        for (at, _) in
            (0..).step_by(BLOCK).zip(a.chunks(BLOCK)).filter(|(at, block)| **block != b[*at..at + BLOCK])
        {
            match changes.last_mut() {
                Some((from, len)) if *from + *len as u64 == offset + at as u64 && *len < 1 << 20 => {
                    *len += BLOCK
                }
                _ => changes.push((offset + at as u64, BLOCK)),
            }
        }
    }
    out.into_inner()?.sync_all()?;
    let new_bytes =
        fresh.into_iter().filter(|hash| here.insert(*hash)).count() as u64 * u64::from(CHUNK_SIZE);
    Ok(Pair { before, after, delta, changed_chunks, new_bytes, changes })
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
