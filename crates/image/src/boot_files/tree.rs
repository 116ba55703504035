//! One face for the file systems that boot files lie in: ext2/3/4 and FAT.
//!
//! Paths are absolute and use `/`. Reads are bounded by the caller; listings by a constant.

use crate::window::Window;
use ext4_view::{Ext4, Ext4Error};
use std::io::Read;

/// The most names taken from one directory; `/boot` and `/lib/modules` have tens.
const LIST_LIMIT: usize = 4096;
/// Where the magic numbers of other file systems lie, to name them in a message.
const MAGICS: [(u64, &[u8], &str); 8] = [
    (0, b"XFSB", "xfs"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (3, b"NTFS    ", "ntfs"),
    (0, b"LUKS\xba\xbe", "an encrypted LUKS volume"),
    (0x218, b"LVM2 001", "an LVM volume"),
    (0xff6, b"SWAPSPACE2", "swap"),
    (0, b"hsqs", "squashfs"),
    (0x400, b"\x10\x20\xf5\xf2", "f2fs"),
];

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeError {
    /// There is no such file or directory.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The file is larger than the caller will take.
    #[error("{path} is too large")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        size_bytes: u64,
        /// What the caller would take.
        limit_bytes: u64,
    },
    /// The file system cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file or directory.
        path: String,
        /// What the parser says.
        reason: String,
    },
}

/// A file system.
pub(super) enum Tree {
    /// ext2, ext3 or ext4.
    Ext4(Ext4),
    /// FAT12, FAT16 or FAT32.
    Fat(Box<fatfs::FileSystem<Window>>),
    /// Recognised but not readable here, or damaged.
    Other(String),
}

impl Tree {
    /// Recognises the file system in a partition.
    pub(super) fn open(mut window: Window) -> Self {
        if has_magic(&mut window, 0x438, b"\x53\xef") {
            return match Ext4::load(Box::new(window)) {
                Ok(ext4) => Self::Ext4(ext4),
                Err(error) => Self::Other(format!("ext4 that cannot be read ({error})")),
            };
        }
        for (offset, magic, name) in MAGICS {
            if has_magic(&mut window, offset, magic) {
                return Self::Other(name.to_owned());
            }
        }
        let looks_like_fat = has_magic(&mut window, 510, b"\x55\xaa")
            && (has_magic(&mut window, 0x36, b"FAT") || has_magic(&mut window, 0x52, b"FAT"));
        match fatfs::FileSystem::new(window, fatfs::FsOptions::new()) {
            Ok(fat) if looks_like_fat => Self::Fat(Box::new(fat)),
            _ => Self::Other("no file system known here".to_owned()),
        }
    }

    /// Whether a Linux root can lie here.
    pub(super) fn is_ext4(&self) -> bool {
        matches!(self, Self::Ext4(_))
    }

    /// The kind's name, for a message.
    pub(super) fn kind(&self) -> &str {
        match self {
            Self::Ext4(_) => "ext4",
            Self::Fat(_) => "FAT",
            Self::Other(name) => name,
        }
    }

    /// The identity that `/etc/fstab` and `root=` use, in lower case; none where it is empty.
    pub(super) fn uuid(&self) -> Option<String> {
        match self {
            Self::Ext4(ext4) => {
                let uuid = ext4.uuid();
                (uuid.as_bytes() != &[0; 16]).then(|| uuid.to_string().to_lowercase())
            }
            Self::Fat(fat) => {
                let id = fat.volume_id();
                Some(format!("{:04x}-{:04x}", id >> 16, id & 0xffff))
            }
            Self::Other(_) => None,
        }
    }

    /// Whether a path exists, symbolic links followed.
    pub(super) fn exists(&self, path: &str) -> Result<bool, TreeError> {
        match self {
            Self::Ext4(ext4) => match ext4.exists(path) {
                Err(Ext4Error::NotADirectory) => Ok(false),
                other => other.map_err(|error| ext4_error(path, &error)),
            },
            Self::Fat(fat) => {
                let root = fat.root_dir();
                let name = path.trim_matches('/');
                Ok(name.is_empty() || root.open_file(name).is_ok() || root.open_dir(name).is_ok())
            }
            Self::Other(_) => Ok(false),
        }
    }

    /// The length in bytes of a file on ext4, links followed; none where it does not exist.
    pub(super) fn size_of(&self, path: &str) -> Result<Option<u64>, TreeError> {
        match self {
            Self::Ext4(ext4) => match ext4.metadata(path) {
                Ok(metadata) => Ok(Some(metadata.len())),
                Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => Ok(None),
                Err(error) => Err(ext4_error(path, &error)),
            },
            Self::Fat(_) | Self::Other(_) => Err(TreeError::NotFound(path.to_owned())),
        }
    }

    /// A whole file of at most `limit_bytes`.
    pub(super) fn read(&self, path: &str, limit_bytes: u64) -> Result<Vec<u8>, TreeError> {
        match self {
            Self::Ext4(ext4) => {
                let metadata = ext4.metadata(path).map_err(|error| ext4_error(path, &error))?;
                check_size(path, metadata.len(), limit_bytes)?;
                ext4.read(path).map_err(|error| ext4_error(path, &error))
            }
            Self::Fat(fat) => read_fat(fat, path, limit_bytes),
            Self::Other(_) => Err(TreeError::NotFound(path.to_owned())),
        }
    }

    /// A file as text; what is not UTF-8 in it is replaced. None where it does not exist.
    pub(super) fn read_text(&self, path: &str, limit: u64) -> Result<Option<String>, TreeError> {
        match self.read(path, limit) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(TreeError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names in a directory, sorted; none where it does not exist. Names that are not UTF-8
    /// are left out: no kernel has one.
    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, TreeError> {
        let mut names = match self {
            Self::Ext4(ext4) => list_ext4(ext4, path)?,
            Self::Fat(fat) => list_fat(fat, path)?,
            Self::Other(_) => Vec::new(),
        };
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }
}

fn has_magic(window: &mut Window, offset: u64, magic: &[u8]) -> bool {
    let mut found = vec![0; magic.len()];
    window.fill(offset, &mut found).is_ok() && found == magic
}

fn list_ext4(ext4: &Ext4, path: &str) -> Result<Vec<String>, TreeError> {
    let entries = match ext4.read_dir(path) {
        Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => return Ok(Vec::new()),
        other => other.map_err(|error| ext4_error(path, &error))?,
    };
    let mut names = Vec::new();
    for entry in entries.take(LIST_LIMIT) {
        let entry = entry.map_err(|error| ext4_error(path, &error))?;
        names.extend(entry.file_name().as_str().ok().map(str::to_owned));
    }
    Ok(names)
}

fn list_fat(fat: &fatfs::FileSystem<Window>, path: &str) -> Result<Vec<String>, TreeError> {
    let name = path.trim_matches('/');
    let root = fat.root_dir();
    let directory = if name.is_empty() { Ok(root) } else { root.open_dir(name) };
    let Ok(directory) = directory else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in directory.iter().take(LIST_LIMIT) {
        names.push(entry.map_err(|error| io_error(path, &error))?.file_name());
    }
    Ok(names)
}

fn read_fat(fat: &fatfs::FileSystem<Window>, path: &str, limit_bytes: u64) -> Result<Vec<u8>, TreeError> {
    let file = fat.root_dir().open_file(path.trim_matches('/'));
    let file = file.map_err(|_| TreeError::NotFound(path.to_owned()))?;
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(|error| io_error(path, &error))?;
    check_size(path, bytes.len() as u64, limit_bytes)?;
    Ok(bytes)
}

fn check_size(path: &str, size_bytes: u64, limit_bytes: u64) -> Result<(), TreeError> {
    if size_bytes > limit_bytes {
        return Err(TreeError::TooLarge { path: path.to_owned(), size_bytes, limit_bytes });
    }
    Ok(())
}

fn ext4_error(path: &str, error: &Ext4Error) -> TreeError {
    match error {
        Ext4Error::NotFound => TreeError::NotFound(path.to_owned()),
        other => TreeError::Unreadable { path: path.to_owned(), reason: other.to_string() },
    }
}

fn io_error(path: &str, error: &std::io::Error) -> TreeError {
    TreeError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}
