//! Records of the audit that the farm database did not take: kept in a file, written through later.
//!
//! Works for any reason that a transaction fails for. As long as the file has records, new ones go
//! behind them, so that they arrive in their order. A record whose key the database has with the
//! result `ok` was committed with its change after all, and stays as it is there.
//!
//! The file is a line of text that names the format, then a line for each record: checksum, key,
//! value (docs/formats.md). What a crash cut off has no valid checksum, and is left out.

use farm::{AuditId, AuditRecord, Key, Record};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const HEADER: &str = "headwater audit spool, revision 1\n";
const CHECKSUM_CONTEXT: &str = "headwater 2026-11 audit spool v1";
/// Hexadecimal digits of a line's checksum.
const CHECKSUM_DIGITS: usize = 16;
/// The largest file in bytes: some 50,000 records. Beyond it they are only in the log.
const MAX_BYTES: u64 = 32 << 20;

/// The file.
pub(crate) struct Spool {
    file: Mutex<File>,
    /// Whether the file has records: to be asked without waiting for who writes to it.
    waiting: AtomicBool,
}

/// Why a record is not in the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error(
        "the audit's spool file is full: {MAX_BYTES} bytes\nhint: the farm database has been away for long"
    )]
    Full,
    #[error("the audit's spool file: {0}")]
    Io(#[from] std::io::Error),
}

impl Spool {
    /// Opens or makes the file, for its owner alone; it is in its directory for good.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        File::open(path.parent().expect("a file in a directory"))?.sync_all()?;
        let waiting = AtomicBool::new(file.metadata()?.len() > HEADER.len() as u64);
        Ok(Self { file: Mutex::new(file), waiting })
    }

    /// Whether records wait.
    pub(super) fn is_empty(&self) -> bool {
        !self.waiting.load(Ordering::Acquire)
    }

    /// Appends a record; it is durable when this answers.
    pub(super) fn append(&self, id: &AuditId, record: &AuditRecord) -> Result<(), SpoolError> {
        let mut file = self.lock();
        let mut end = file.seek(SeekFrom::End(0))?;
        if end < HEADER.len() as u64 {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(HEADER.as_bytes())?;
            end = HEADER.len() as u64;
        }
        // A newline first: the line before may have been cut off.
        let line = format!("\n{}", line(id, record));
        if end + line.len() as u64 > MAX_BYTES {
            return Err(SpoolError::Full);
        }
        self.waiting.store(true, Ordering::Release);
        file.write_all(line.as_bytes())?;
        Ok(file.sync_data()?)
    }

    /// Every record that is whole, in the order of their writing, and how long the file was. A file
    /// of another format is an error, and stays as it is.
    pub(super) fn read(&self) -> std::io::Result<(Vec<(AuditId, AuditRecord)>, u64)> {
        let mut file = self.lock();
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut *file).take(MAX_BYTES).read_to_end(&mut bytes)?;
        if bytes.len() >= HEADER.len() && !bytes.starts_with(HEADER.as_bytes()) {
            return Err(std::io::Error::other("it is of a format that this program does not know"));
        }
        Ok((records(&bytes), bytes.len() as u64))
    }

    /// Empties the file unless it has grown since it was `length` bytes long; answers whether it did.
    pub(super) fn clear(&self, length: u64) -> std::io::Result<bool> {
        let file = self.lock();
        if file.metadata()?.len() != length {
            return Ok(false);
        }
        file.set_len(0)?;
        file.sync_data()?;
        self.waiting.store(false, Ordering::Release);
        Ok(true)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, File> {
        self.file.lock().expect("no holder of this lock panics")
    }
}

fn line(id: &AuditId, record: &AuditRecord) -> String {
    let value = String::from_utf8(record.encode()).expect("JSON is text");
    let text = format!("{} {value}", Key::Audit(id.clone()));
    format!("{} {text}\n", checksum(&text))
}

fn checksum(text: &str) -> String {
    let hash = blake3::Hasher::new_derive_key(CHECKSUM_CONTEXT).update(text.as_bytes()).finalize();
    hash.to_hex()[..CHECKSUM_DIGITS].to_owned()
}

fn records(bytes: &[u8]) -> Vec<(AuditId, AuditRecord)> {
    let text = String::from_utf8_lossy(bytes);
    text.strip_prefix(HEADER).unwrap_or_default().lines().filter_map(record).collect()
}

fn record(line: &str) -> Option<(AuditId, AuditRecord)> {
    let (sum, text) = line.split_once(' ')?;
    if sum != checksum(text) {
        tracing::warn!("a record of the audit's spool file was cut off");
        return None;
    }
    let (key, value) = text.split_once(' ')?;
    let key: Key = key.parse().ok()?;
    let record = AuditRecord::decode(&key, value.as_bytes()).ok()?;
    match key {
        Key::Audit(id) => Some((id, record)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../golden/audit-spool-1");

    /// The records of the farm's golden file.
    fn some() -> Vec<(AuditId, AuditRecord)> {
        let golden = include_str!("../../../../farm/golden/audit-1.txt");
        let read = |line: &str| {
            let (key, value) = line.split_once(' ').unwrap();
            let key: Key = key.parse().unwrap();
            let record = AuditRecord::decode(&key, value.as_bytes()).unwrap();
            let Key::Audit(id) = key else { panic!("{key}") };
            (id, record)
        };
        golden.lines().map(read).collect()
    }

    #[test]
    fn the_golden_file_is_written_and_read_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.spool");
        let spool = Spool::open(&path).unwrap();
        assert!(spool.is_empty());
        some().iter().for_each(|(id, record)| spool.append(id, record).unwrap());
        let written = std::fs::read(&path).unwrap();
        assert!(written == GOLDEN, "it is now\n{}", String::from_utf8_lossy(&written));
        assert_eq!(spool.read().unwrap(), (some(), GOLDEN.len() as u64));
    }

    #[test]
    fn what_a_crash_cut_off_is_left_out_and_what_comes_after_is_not() {
        for cut in HEADER.len()..GOLDEN.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("audit.spool");
            std::fs::write(&path, &GOLDEN[..cut]).unwrap();
            let spool = Spool::open(&path).unwrap();
            let whole = spool.read().unwrap().0.len();
            assert!(whole <= some().len());
            let (id, last) = some().pop().unwrap();
            spool.append(&id, &last).unwrap();
            let (read, length) = spool.read().unwrap();
            assert_eq!(read.len(), whole + 1, "cut at {cut}");
            assert!(!spool.clear(length - 1).unwrap(), "it has grown meanwhile");
            assert!(spool.clear(length).unwrap() && spool.is_empty());
        }
    }

    #[test]
    fn a_header_that_was_cut_off_is_written_anew() {
        for cut in 0..HEADER.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("audit.spool");
            std::fs::write(&path, &GOLDEN[..cut]).unwrap();
            let spool = Spool::open(&path).unwrap();
            let (id, record) = some().remove(0);
            spool.append(&id, &record).unwrap();
            assert_eq!(spool.read().unwrap().0.len(), 1);
        }
    }
}
