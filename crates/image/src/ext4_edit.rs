//! Emptying and removing files of an ext4 file system that is not mounted.
//!
//! The structures are written by `rust-fs-ext4` (docs/decisions/0004): into an [`Overlay`], never
//! into the image. What this module adds is what a version's content asks for: only file systems
//! that were put away cleanly are touched, links are never followed, and a removed file's bytes
//! are zeroed, because a freed block is streamed to every device like any other.

use crate::overlay::Overlay;
use crate::partitions::Partition;
use fs_ext4::block_io::BlockDevice;
use fs_ext4::dir::DirEntryType;
use fs_ext4::error::Error as Ext4Error;
use fs_ext4::fs::Filesystem;
use fs_ext4::inode::Inode;
use std::sync::Arc;

/// Larger files are not what their path says; machine identities have a few kilobytes.
const FILE_LIMIT: u64 = 1 << 20;
/// Where the superblock lies in its partition, and how long it is.
const SUPERBLOCK: (u64, usize) = (1024, 1024);
/// `s_magic`.
const MAGIC_OFFSET: u64 = 1024 + 0x38;
const MAGIC: u16 = 0xef53;
/// `s_state`: the file system was unmounted cleanly, and errors were found in it.
const STATE_VALID: u16 = 1;
const STATE_ERRORS: u16 = 2;
/// `s_feature_incompat`: the journal has to be replayed; the journal is on another device.
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEVICE: u32 = 0x8;
/// `s_feature_ro_compat`: the orphan file is not empty.
const RO_COMPAT_ORPHAN_PRESENT: u32 = 0x1_0000;

/// Why a file system is not edited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// It was not put away, or not by a healthy machine.
    #[error("{0}")]
    NotClean(&'static str),
    /// It uses something that is not written here.
    #[error("{0}")]
    Unsupported(String),
    /// Its structures contradict each other, or it could not be read.
    #[error("{0}")]
    Damaged(String),
}

impl From<Ext4Error> for EditError {
    fn from(error: Ext4Error) -> Self {
        match error {
            Ext4Error::UnsupportedIncompat(_)
            | Ext4Error::UnsupportedRoCompat(_)
            | Ext4Error::Unsupported(_) => Self::Unsupported(error.to_string()),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// An ext4 file system open for changes.
pub(crate) struct Editor {
    device: Arc<PartitionDevice>,
    fs: Filesystem,
}

/// A regular file.
pub(crate) struct File {
    inode_number: u32,
    inode: Inode,
}

impl File {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.inode.size
    }
}

impl Editor {
    /// Opens a partition; refuses what was not unmounted cleanly.
    pub(crate) fn open(overlay: &Arc<Overlay>, partition: &Partition) -> Result<Self, EditError> {
        let (overlay, start, len) = (Arc::clone(overlay), partition.start, partition.len);
        let device = Arc::new(PartitionDevice { overlay, start, len });
        check_clean(&device)?;
        let fs = Filesystem::mount(Arc::clone(&device) as Arc<dyn BlockDevice>)?;
        Ok(Self { device, fs })
    }

    /// The regular file of a path from the root, without following links; none where there is none.
    pub(crate) fn file(&self, path: &str) -> Result<Option<File>, EditError> {
        let Some(number) = self.find(path)? else { return Ok(None) };
        let inode = self.fs.stat_ino(number)?;
        Ok(inode.is_file().then_some(File { inode_number: number, inode }))
    }

    /// The names of the regular files in a directory, sorted; none where it does not exist.
    pub(crate) fn files_in(&self, directory: &str) -> Result<Vec<String>, EditError> {
        let Some(number) = self.find(directory)? else { return Ok(Vec::new()) };
        if !self.fs.stat_ino(number)?.is_dir() {
            return Ok(Vec::new());
        }
        let entries = self.fs.read_dir_ino(number)?;
        let files = entries.into_iter().filter(|entry| entry.file_type == DirEntryType::RegFile);
        let mut names: Vec<String> = files.filter_map(|entry| String::from_utf8(entry.name).ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Makes a file zero bytes long.
    pub(crate) fn empty(&self, path: &str, file: &File) -> Result<(), EditError> {
        let blocks = self.blocks(path, file)?;
        self.fs.apply_truncate_ino(file.inode_number, 0)?;
        self.zero(&blocks)
    }

    /// Removes a file and zeroes what it held.
    pub(crate) fn remove(&self, path: &str, file: &File) -> Result<(), EditError> {
        let blocks = self.blocks(path, file)?;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let damaged = || EditError::Damaged(format!("/{parent} is gone"));
        let parent = self.find(parent)?.ok_or_else(damaged)?;
        self.fs.apply_unlink_at(parent, name.as_bytes())?;
        self.zero(&blocks)
    }

    /// Walks a path from the root, directory by directory.
    fn find(&self, path: &str) -> Result<Option<u32>, EditError> {
        let mut number = fs_ext4::path::EXT4_ROOT_INODE;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            number = match self.fs.lookup_at(number, name.as_bytes()) {
                Ok(found) => found,
                // A link on the way leads to NotADirectory: what lies behind it is not this path.
                Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Some(number))
    }

    /// Where a file's bytes are in the partition; nowhere where they lie in its inode, which the
    /// removal clears itself.
    fn blocks(&self, path: &str, file: &File) -> Result<Vec<u64>, EditError> {
        if file.len() > FILE_LIMIT {
            let message = format!("/{path} has {} bytes, which is not what such a file has", file.len());
            return Err(EditError::Unsupported(message));
        }
        if file.inode.has_inline_data() {
            return Ok(Vec::new());
        }
        let block_count = file.len().div_ceil(u64::from(self.fs.sb.block_size()));
        let mut blocks = Vec::new();
        for logical in 0..block_count {
            blocks.extend(self.fs.map_inode_logical(&file.inode, logical)?);
        }
        Ok(blocks)
    }

    fn zero(&self, blocks: &[u64]) -> Result<(), EditError> {
        let block_size = self.fs.sb.block_size();
        let zeros = vec![0; block_size as usize];
        for block in blocks {
            let offset = block.saturating_mul(u64::from(block_size));
            self.device.write_at(offset, &zeros)?;
        }
        Ok(())
    }
}

/// Refuses an ext4 partition that was not unmounted cleanly; others are none of its business.
pub(crate) fn check_unmounted(overlay: &Arc<Overlay>, partition: &Partition) -> Result<(), EditError> {
    let device = PartitionDevice { overlay: Arc::clone(overlay), start: partition.start, len: partition.len };
    let mut magic = [0; 2];
    match device.read_at(MAGIC_OFFSET, &mut magic) {
        Ok(()) if u16::from_le_bytes(magic) == MAGIC => check_clean(&device),
        _ => Ok(()),
    }
}

/// Reads the superblock's own word on how the file system was left.
fn check_clean(device: &PartitionDevice) -> Result<(), EditError> {
    let mut raw = [0; SUPERBLOCK.1];
    device.read_at(SUPERBLOCK.0, &mut raw)?;
    let u16_at = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let (state, incompat, ro_compat, last_orphan) = (u16_at(0x3a), u32_at(0x60), u32_at(0x64), u32_at(0xe8));
    if incompat & INCOMPAT_JOURNAL_DEVICE != 0 {
        return Err(EditError::Unsupported("its journal is on another disk".to_owned()));
    }
    if incompat & INCOMPAT_RECOVER != 0 {
        return Err(EditError::NotClean("its journal has changes that are not in place yet"));
    }
    if state & STATE_ERRORS != 0 {
        return Err(EditError::NotClean("it is marked as having errors"));
    }
    if state & STATE_VALID == 0 || last_orphan != 0 || ro_compat & RO_COMPAT_ORPHAN_PRESENT != 0 {
        return Err(EditError::NotClean("it was not unmounted"));
    }
    Ok(())
}

/// One partition of the overlay, as `rust-fs-ext4` wants to see it.
struct PartitionDevice {
    overlay: Arc<Overlay>,
    start: u64,
    len: u64,
}

impl PartitionDevice {
    fn check(&self, offset: u64, len: usize) -> Result<(), Ext4Error> {
        let inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.len);
        if inside { Ok(()) } else { Err(Ext4Error::OutOfBounds) }
    }
}

impl BlockDevice for PartitionDevice {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Ext4Error> {
        self.check(offset, buffer.len())?;
        self.overlay.read(self.start + offset, buffer).map_err(Ext4Error::Io)
    }

    fn size_bytes(&self) -> u64 {
        self.len
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Ext4Error> {
        self.check(offset, bytes.len())?;
        self.overlay.write(self.start + offset, bytes).map_err(Ext4Error::Io)
    }

    fn is_writable(&self) -> bool {
        true
    }
}
