//! The header of a qcow2 image, believed only as far as the file bears it out.
//!
//! QEMU docs/interop/qcow2.txt, "Header". All integers are big-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `QFI\xfb` |
//! | 4 | 4 | version, 2 or 3 |
//! | 8 | 8 | offset of the backing file's name, 0 = none |
//! | 16 | 4 | length of that name |
//! | 20 | 4 | cluster bits, 9 to 21 |
//! | 24 | 8 | size of the disk in bytes |
//! | 32 | 4 | encryption, 0 = none |
//! | 36 | 4 | entries of the L1 table |
//! | 40 | 8 | offset of the L1 table |
//! | 48 | 8 | offset of the refcount table |
//! | 56 | 4 | clusters of the refcount table |
//! | 60 | 4 | number of internal snapshots |
//! | 64 | 8 | offset of the snapshot table |
//! | 72 | 8 | incompatible features (version 3) |
//! | 96 | 4 | refcount order, 0 to 6 (version 3) |
//! | 100 | 4 | header length, at least 104 (version 3) |

use crate::reader::ImageError;
use model::DiskSize;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// QEMU's own limit for the L1 table in bytes.
const MAX_L1_BYTES: u64 = 32 << 20;
/// QEMU's own limit for the refcount table in bytes.
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// What is needed to walk the image's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) file_bytes: u64,
    pub(crate) version: u32,
    pub(crate) cluster_bits: u32,
    pub(crate) size_bytes: u64,
    pub(crate) l1_entries: u32,
    pub(crate) l1_offset: u64,
    pub(crate) refcount_table_offset: u64,
    pub(crate) refcount_table_clusters: u32,
}

impl Header {
    /// Reads and checks the header of `file`.
    pub(crate) fn read(file: &File) -> Result<Self, ImageError> {
        let file_bytes = file.metadata().map_err(reading)?.len();
        let mut bytes = [0; 104];
        let have = file_bytes.min(bytes.len() as u64) as usize;
        file.read_exact_at(&mut bytes[..have], 0).map_err(reading)?;
        let version = word(&bytes, 4);
        let needed = if version == 2 { 72 } else { 104 };
        if have < needed {
            return Err(damaged(format!("the file has {file_bytes} bytes, its header alone has {needed}")));
        }
        let header = Self {
            file_bytes,
            version,
            cluster_bits: word(&bytes, 20),
            size_bytes: long(&bytes, 24),
            l1_entries: word(&bytes, 36),
            l1_offset: long(&bytes, 40),
            refcount_table_offset: long(&bytes, 48),
            refcount_table_clusters: word(&bytes, 56),
        };
        header.refuse_unknown(&bytes)?;
        header.refuse_impossible(&bytes)?;
        Ok(header)
    }

    pub(crate) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// How many bytes of the disk one L2 table maps.
    pub(crate) fn l2_reach_bytes(&self) -> u64 {
        self.cluster_bytes() / 8 * self.cluster_bytes()
    }

    /// What other programs may read, but this one does not.
    fn refuse_unknown(&self, bytes: &[u8; 104]) -> Result<(), ImageError> {
        if !(2..=3).contains(&self.version) {
            return Err(ImageError::Unsupported(format!("qcow2 version {}", self.version)));
        }
        if word(bytes, 32) != 0 {
            return Err(refused(
                "the image is encrypted",
                "decrypt it first: qemu-img convert --object secret,... -O qcow2",
            ));
        }
        if long(bytes, 8) != 0 {
            return Err(refused(
                "the image is only a difference to a backing file",
                "make it whole first: qemu-img convert -O qcow2 IMAGE whole.qcow2",
            ));
        }
        let features = if self.version == 3 { long(bytes, 72) } else { 0 };
        if features & CORRUPT != 0 {
            return Err(damaged("it is marked as corrupt".into()));
        }
        if features & DIRTY != 0 {
            return Err(refused(
                "the image was not closed properly",
                "close the machine that uses it; if none does: qemu-img check -r all IMAGE",
            ));
        }
        let convert = "convert it first: qemu-img convert -O qcow2 IMAGE plain.qcow2";
        for (bit, what) in [
            (EXTERNAL_DATA, "the image keeps its data in another file"),
            (COMPRESSION_TYPE, "the image is compressed with zstd"),
            (EXTENDED_L2, "the image has extended L2 entries"),
        ] {
            if features & bit != 0 {
                return Err(refused(what, convert));
            }
        }
        let known = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;
        match features & !known {
            0 => Ok(()),
            bits => Err(ImageError::Unsupported(format!("unknown qcow2 features {bits:#x}"))),
        }
    }

    /// What no sound image has.
    fn refuse_impossible(&self, bytes: &[u8; 104]) -> Result<(), ImageError> {
        if !(9..=21).contains(&self.cluster_bits) {
            return Err(damaged(format!("clusters of 2^{} bytes", self.cluster_bits)));
        }
        if self.version == 3 && word(bytes, 96) > 6 {
            return Err(damaged(format!("refcounts of 2^{} bits", word(bytes, 96))));
        }
        let header_bytes = u64::from(word(bytes, 100));
        if self.version == 3 && !(104..=self.cluster_bytes()).contains(&header_bytes) {
            return Err(damaged(format!("a header of {header_bytes} bytes")));
        }
        DiskSize::new(self.size_bytes).map_err(|error| damaged(error.to_string()))?;
        let l1_needed = self.size_bytes.div_ceil(self.l2_reach_bytes());
        if u64::from(self.l1_entries) < l1_needed {
            let entries = self.l1_entries;
            return Err(damaged(format!(
                "its L1 table has {entries} entries, its size asks for {l1_needed}"
            )));
        }
        self.refuse_table("L1 table", self.l1_offset, u64::from(self.l1_entries) * 8, MAX_L1_BYTES)?;
        let refcount_bytes = u64::from(self.refcount_table_clusters) * self.cluster_bytes();
        if refcount_bytes == 0 {
            return Err(damaged("it has no refcount table".into()));
        }
        self.refuse_table(
            "refcount table",
            self.refcount_table_offset,
            refcount_bytes,
            MAX_REFCOUNT_TABLE_BYTES.max(self.cluster_bytes()),
        )
    }

    /// A table must lie in the file, at the beginning of a cluster, and not be absurdly large.
    fn refuse_table(&self, what: &str, offset: u64, len: u64, max: u64) -> Result<(), ImageError> {
        if len > max {
            return Err(damaged(format!("a {what} of {len} bytes")));
        }
        if !offset.is_multiple_of(self.cluster_bytes()) || offset == 0 {
            return Err(damaged(format!("its {what} is at offset {offset}, inside a cluster")));
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.file_bytes => Ok(()),
            _ => Err(damaged(format!("its {what} lies beyond the end of the file: was it cut off?"))),
        }
    }
}

pub(crate) fn damaged(what: String) -> ImageError {
    ImageError::Damaged(what)
}

pub(crate) fn reading(source: io::Error) -> ImageError {
    ImageError::Io { context: "cannot read the qcow2 image".into(), source }
}

fn refused(reason: &str, hint: &str) -> ImageError {
    ImageError::Refused { reason: reason.into(), hint: hint.into() }
}

fn word(bytes: &[u8; 104], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn long(bytes: &[u8; 104], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
