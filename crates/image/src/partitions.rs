//! The partitions of an image: GPT, MBR with logical drives, or one file system on the whole disk.
//!
//! The tables' fields are decoded by `gptman` and `mbrman`; what would make those crates panic or
//! allocate by a number in the image is checked here first. Partitions that reach beyond the disk
//! are cut, empty ones left out.

use crate::reader::ImageReader;
use crate::window::{Budget, Window};
use std::io::{Cursor, Seek, SeekFrom};
use std::sync::Arc;

/// The most entries of a partition table that are looked at; GPT's usual number is 128.
const ENTRY_LIMIT: u32 = 1024;
/// The most logical drives followed in an extended partition, as in Linux (`DISK_MAX_PARTS`).
const LOGICAL_LIMIT: u32 = 256;
const GPT_HEADER_SIZE: u32 = 92;
const GPT_ENTRY_SIZE: u32 = 128;
/// MBR type of the one entry that covers a GPT disk.
const PROTECTIVE: u8 = 0xee;

/// A range of the disk that may hold a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The number that Linux gives it, from 1; none where the file system covers the whole disk.
    pub number: Option<u32>,
    /// The identity that Linux shows as PARTUUID, in lower case.
    pub part_uuid: Option<String>,
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes; never beyond the disk's end.
    pub len: u64,
}

/// The image's partitions in the order of their numbers; without a table that makes sense, the
/// whole disk as one.
pub fn find_partitions(image: &Arc<dyn ImageReader>) -> Vec<Partition> {
    let size = image.size_bytes();
    let mut disk = Window::new(Arc::clone(image), 0, size, Budget::new());
    let mut found = gpt_partitions(&mut disk).unwrap_or_else(|| mbr_partitions(&mut disk));
    found.retain(|partition| partition.start > 0 && partition.start < size);
    for partition in &mut found {
        partition.len = partition.len.min(size - partition.start);
    }
    found.retain(|partition| partition.len > 0);
    if found.is_empty() {
        found.push(Partition { number: None, part_uuid: None, start: 0, len: size });
    }
    found
}

/// The partitions of the first valid GPT: primary or backup, 512 or 4,096 bytes a sector.
fn gpt_partitions(disk: &mut Window) -> Option<Vec<Partition>> {
    [512, 4096].into_iter().find_map(|sector_size| {
        let last = disk.len().checked_sub(sector_size)? / sector_size * sector_size;
        gpt_at(disk, sector_size, sector_size).or_else(|| gpt_at(disk, last, sector_size))
    })
}

fn gpt_at(disk: &mut Window, offset: u64, sector_size: u64) -> Option<Vec<Partition>> {
    // A whole sector: gptman reads a few bytes more than the header has.
    let mut raw = [0; 512];
    disk.fill(offset, &mut raw).ok()?;
    if !is_safe_gpt_header(&raw, disk.len() / sector_size) {
        return None;
    }
    let header = gptman::GPTHeader::read_from(&mut Cursor::new(raw)).ok()?;
    disk.seek(SeekFrom::Start(0)).ok()?;
    let entries = header.read_partitions(disk, sector_size).ok()?;
    let numbered = (1..).zip(&entries).filter(|(_, entry)| entry.is_used());
    Some(numbered.filter_map(|(number, entry)| gpt_entry(number, entry, sector_size)).collect())
}

/// Whether `gptman` can be trusted with this header: it allocates by the number of entries and
/// asserts on their size.
fn is_safe_gpt_header(raw: &[u8; 512], sectors: u64) -> bool {
    let u32_at = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let entries_lba = u64::from(u32_at(72)) | u64::from(u32_at(76)) << 32;
    raw.starts_with(b"EFI PART")
        && u32_at(12) == GPT_HEADER_SIZE
        && entries_lba < sectors
        && u32_at(80) <= ENTRY_LIMIT
        && u32_at(84) == GPT_ENTRY_SIZE
}

fn gpt_entry(number: u32, entry: &gptman::GPTPartitionEntry, sector_size: u64) -> Option<Partition> {
    let sectors = entry.size().ok()?;
    Some(Partition {
        number: Some(number),
        part_uuid: Some(guid_text(&entry.unique_partition_guid)),
        start: entry.starting_lba.checked_mul(sector_size)?,
        len: sectors.checked_mul(sector_size)?,
    })
}

/// A GUID as Linux prints it: the first three fields are little-endian on disk.
fn guid_text(raw: &[u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (position, index) in order.into_iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", raw[index]));
    }
    text
}

fn mbr_partitions(disk: &mut Window) -> Vec<Partition> {
    let Some(header) = mbr_at(disk, 0) else { return Vec::new() };
    let signature = u32::from_le_bytes(header.disk_signature);
    let mut found = Vec::new();
    for (number, entry) in
        (1..).zip([&header.partition_1, &header.partition_2, &header.partition_3, &header.partition_4])
    {
        if entry.is_extended() {
            found.extend(logical_drives(disk, u64::from(entry.starting_lba), signature));
        } else if entry.is_used() && entry.sys != PROTECTIVE {
            found.push(mbr_entry(number, entry, 0, signature));
        }
    }
    found.sort_by_key(|partition| partition.number);
    found
}

fn mbr_at(disk: &mut Window, sector: u64) -> Option<mbrman::MBRHeader> {
    let mut raw = [0; 512];
    disk.fill(sector.checked_mul(512)?, &mut raw).ok()?;
    mbrman::MBRHeader::read_from(&mut Cursor::new(raw)).ok()
}

/// Follows the chain of extended boot records; their first entry is a drive, the second the link.
fn logical_drives(disk: &mut Window, extended: u64, signature: u32) -> Vec<Partition> {
    let mut found = Vec::new();
    let mut record = extended;
    for number in 5..5 + LOGICAL_LIMIT {
        let Some(header) = mbr_at(disk, record) else { break };
        if header.partition_1.is_used() {
            found.push(mbr_entry(number, &header.partition_1, record, signature));
        }
        if !header.partition_2.is_extended() {
            break;
        }
        record = extended + u64::from(header.partition_2.starting_lba);
    }
    found
}

fn mbr_entry(number: u32, entry: &mbrman::MBRPartitionEntry, base_sector: u64, signature: u32) -> Partition {
    Partition {
        number: Some(number),
        part_uuid: (signature != 0).then(|| format!("{signature:08x}-{number:02x}")),
        start: (base_sector + u64::from(entry.starting_lba)) * 512,
        len: u64::from(entry.sectors) * 512,
    }
}

#[cfg(test)]
mod tests;
