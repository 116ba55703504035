//! Leases that survive a restart.
//!
//! A text file, so that an admin can read it (docs/formats.md, "Lease file"):
//!
//! ```text
//! headwater-leases 1
//! 52:54:00:12:34:56 10.0.0.100 1795370400
//! ```
//!
//! The first line names the format and its revision. Every other line is a MAC address, an IPv4
//! address and the second (since 1970) in which the lease ends; a later line for the same MAC or
//! the same address replaces an earlier one, an end of 0 removes it. Lines are appended and synced
//! before the client hears of its lease; a last line without its newline was torn by a crash and
//! does not count. When the file has become several times longer than the table it is rewritten
//! beside and renamed over.

use model::MacAddress;
use protocol::dhcp::{Lease, LeaseChange, Leases};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

const HEADER: &str = "headwater-leases 1";
/// Lines above twice the table's size before the file is rewritten: a day of renewals of a room.
const SLACK_LINES: usize = 4096;
/// A longer file is none of ours: 65,536 addresses, compacted, have 3 MB.
const SIZE_LIMIT: u64 = 64 << 20;

/// Why a lease file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LeaseFileError {
    /// Not written by this program, or by a newer one.
    #[error(
        "{path} is no lease file that this version reads: line {line} is {text:?}\nhint: move it away to start with an empty one; devices then may get other addresses"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// It cannot be read or written.
    #[error("lease file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The open file.
#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    file: File,
    lines: usize,
    /// A write failed: what follows in the file is unknown until it is rewritten.
    broken: bool,
}

impl LeaseFile {
    /// Opens or creates the file and gives the leases in it.
    pub fn open(path: &Path) -> Result<(Self, Leases), LeaseFileError> {
        let fail = |source| LeaseFileError::Io { path: path.to_owned(), source };
        let leases = match read_bounded(path) {
            Ok(text) => parse(&text, path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Leases::default(),
            Err(error) => return Err(fail(error)),
        };
        let file = rewrite(path, &leases).map_err(fail)?;
        let lines = leases.iter().count();
        Ok((Self { path: path.to_owned(), file, lines, broken: false }, leases))
    }

    /// Makes a change durable; `leases` is the table with the change applied. Blocks on the disk.
    pub fn record(&mut self, change: LeaseChange, leases: &Leases) -> Result<(), LeaseFileError> {
        let line = match change {
            LeaseChange::Bind(mac, lease) => format_line(mac, lease),
            LeaseChange::Release(mac) | LeaseChange::Decline(mac, _) => {
                format_line(mac, Lease { address: Ipv4Addr::UNSPECIFIED, until_s: 0 })
            }
            LeaseChange::None | LeaseChange::Offer(..) => return Ok(()),
        };
        let is_long = self.lines > 2 * leases.iter().count() + SLACK_LINES;
        let result = if self.broken || is_long { self.compact(leases) } else { self.append(&line) };
        self.broken = result.is_err();
        result.map_err(|source| LeaseFileError::Io { path: self.path.clone(), source })
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.lines += 1;
        Ok(())
    }

    fn compact(&mut self, leases: &Leases) -> io::Result<()> {
        self.file = rewrite(&self.path, leases)?;
        self.lines = leases.iter().count();
        Ok(())
    }
}

fn format_line(mac: MacAddress, lease: Lease) -> String {
    format!("{mac} {} {}\n", lease.address, lease.until_s)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    if std::fs::metadata(path)?.len() > SIZE_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than any lease file"));
    }
    std::fs::read_to_string(path)
}

fn parse(text: &str, path: &Path) -> Result<Leases, LeaseFileError> {
    let mut leases = Leases::default();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else { break };
        let is_good = match index {
            0 => line == HEADER,
            _ => parse_line(line).map(|change| leases.apply(change)).is_some(),
        };
        if !is_good {
            return Err(LeaseFileError::Format {
                path: path.to_owned(),
                line: index + 1,
                text: line.chars().take(60).collect(),
            });
        }
    }
    Ok(leases)
}

fn parse_line(line: &str) -> Option<LeaseChange> {
    let words: Vec<&str> = line.split(' ').collect();
    let [mac, address, until] = words[..] else { return None };
    let mac = mac.parse().ok()?;
    let lease = Lease { address: address.parse().ok()?, until_s: until.parse().ok()? };
    Some(if lease.until_s == 0 { LeaseChange::Release(mac) } else { LeaseChange::Bind(mac, lease) })
}

/// Writes the whole table beside the file, renames it over, and syncs both file and directory.
fn rewrite(path: &Path, leases: &Leases) -> io::Result<File> {
    let mut text = format!("{HEADER}\n");
    for (mac, lease) in leases.iter() {
        text.push_str(&format_line(mac, lease));
    }
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, last])
    }

    fn bind(last: u8, host: u8, until_s: u64) -> LeaseChange {
        LeaseChange::Bind(mac(last), Lease { address: Ipv4Addr::new(10, 0, 0, host), until_s })
    }

    fn write(path: &Path, changes: &[LeaseChange]) -> Leases {
        let (mut file, mut leases) = LeaseFile::open(path).unwrap();
        for change in changes {
            leases.apply(*change);
            file.record(*change, &leases).unwrap();
        }
        leases
    }

    #[test]
    fn leases_are_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        let written = write(&path, &[bind(1, 10, 500), bind(2, 11, 600), bind(1, 12, 700)]);
        assert_eq!(LeaseFile::open(&path).unwrap().1, written);
        let released = write(&path, &[LeaseChange::Release(mac(2))]);
        assert_eq!(released.iter().count(), 1);
        assert_eq!(LeaseFile::open(&path).unwrap().1, released);
    }

    #[test]
    fn the_golden_file_is_read_and_written_as_it_is() {
        let golden = include_str!("../../golden/leases-1");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        std::fs::write(&path, golden).unwrap();
        let (_, leases) = LeaseFile::open(&path).unwrap();
        assert_eq!(leases.iter().count(), 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), golden);
    }

    #[test]
    fn a_torn_last_line_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        std::fs::write(&path, "headwater-leases 1\n02:00:00:00:00:01 10.0.0.9 500\n02:00:0").unwrap();
        let (_, leases) = LeaseFile::open(&path).unwrap();
        assert_eq!(leases.iter().count(), 1);
    }

    #[test]
    fn a_strange_file_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        std::fs::write(&path, "something else\n").unwrap();
        let error = LeaseFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("hint:"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else\n");
    }

    #[test]
    fn a_long_file_is_rewritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        let (mut file, mut leases) = LeaseFile::open(&path).unwrap();
        file.lines = SLACK_LINES + 100;
        leases.apply(bind(1, 10, 500));
        file.record(bind(1, 10, 500), &leases).unwrap();
        assert_eq!(file.lines, 1);
        assert_eq!(LeaseFile::open(&path).unwrap().1, leases);
    }
}
