//! The offline check: reads a whole store, changes nothing, and says what is wrong with it.
//!
//! It shares the format types with the rest of the crate (records, presence, page packs, the heads
//! and logs of drafts) and nothing else: how a store is opened, what is laid over what and what
//! belongs where is worked out here once more, so that a mistake there is seen here. It takes the
//! store's lock for reading, so that no server has the store open meanwhile.

mod drafts;
mod report;
mod version;

pub use report::CheckReport;

use crate::quarantine::{self, QUARANTINE_FILE};
use crate::record::{LayerName, VersionRecord};
use model::Root;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The marker of the format that this checks.
const FORMAT: &str = "headwater store, revision 1\n";
/// Files that a store's directory may have.
const FILES: [&str; 4] = ["format", "lock", QUARANTINE_FILE, "scrub"];
/// Files that a crash may leave there; the next write to the same place removes them.
const LEFT_OVER: [&str; 3] = ["format.new", "quarantine.new", "scrub.new"];
/// Directories that a store has.
const DIRECTORIES: [&str; 6] = ["drafts", "incoming", "layers", "receiving", "unclaimed", "versions"];
/// Directories that older stores do not have before they are opened.
const NEWER: [&str; 2] = ["drafts", "receiving"];

/// Hears how a check goes.
pub trait CheckObserver {
    /// So many bytes of chunks were verified.
    fn progress(&self, bytes: u64);

    /// Whether to stop.
    fn cancelled(&self) -> bool;
}

impl CheckObserver for crate::import::Quiet {
    fn progress(&self, _: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Why a store cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no store.
    #[error("{0} is not a store of revision 1\nhint: give the directory that has the file \"format\" in it")]
    NotAStore(PathBuf),
    /// A server has it open.
    #[error("the store {0} is in use\nhint: stop the server first, or have it scrub the store while it runs")]
    InUse(PathBuf),
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// What was read.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The observer said so.
    #[error("the check was stopped")]
    Cancelled,
}

/// Verifies the store in the directory `path`.
pub fn check(path: &Path, observer: &dyn CheckObserver) -> Result<CheckReport, CheckError> {
    let format = fs::read(path.join("format")).unwrap_or_default();
    if format != FORMAT.as_bytes() {
        return Err(CheckError::NotAStore(path.to_owned()));
    }
    let _lock = lock(path)?;
    let report = CheckReport::default();
    let (seen, half, growing) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    let mut check = Check { path, observer, report, seen, half, growing };
    check.names()?;
    let records = check.records()?;
    for (root, record) in &records {
        check.version(*root, record)?;
    }
    check.layers()?;
    check.drafts(&records)?;
    check.quarantine();
    Ok(check.report)
}

/// A check under way.
struct Check<'a> {
    path: &'a Path,
    observer: &'a dyn CheckObserver,
    report: CheckReport,
    /// The chunks of each layer that were verified, one bit each.
    seen: BTreeMap<LayerName, Vec<u64>>,
    /// The versions that are here in part.
    half: BTreeSet<Root>,
    /// The layers of those: chunks may be still to come to them.
    growing: BTreeSet<LayerName>,
}

impl Check<'_> {
    /// What lies in the store's own directory.
    fn names(&mut self) -> Result<(), CheckError> {
        for (name, path) in entries(self.path)? {
            let name = name.as_str();
            match path.is_dir() {
                true if DIRECTORIES.contains(&name) || name == "lost+found" => {}
                false if FILES.contains(&name) => {}
                false if LEFT_OVER.contains(&name) => {
                    self.report.warn(format!("{name:?} is left over from a crash"))
                }
                _ => self.report.warn(format!("{name:?} does not belong into a store")),
            }
        }
        for name in DIRECTORIES.iter().filter(|name| !NEWER.contains(name)) {
            if !self.path.join(name).is_dir() {
                self.report.error(format!("the directory {name:?} is missing"));
            }
        }
        for (name, _) in entries(&self.path.join("incoming"))? {
            self.report.warn(format!("incoming/{name} is left over from something that never finished"));
        }
        Ok(())
    }

    /// Reads every record that can be read.
    fn records(&mut self) -> Result<BTreeMap<Root, VersionRecord>, CheckError> {
        let mut records = BTreeMap::new();
        for directory in ["versions", "unclaimed", "receiving"] {
            for (name, path) in entries(&self.path.join(directory))? {
                let Ok(root) = name.parse::<Root>() else {
                    self.report.warn(format!("{directory}/{name} is not named as a version is"));
                    continue;
                };
                let bytes = fs::read(&path).map_err(|source| CheckError::Io { path, source })?;
                match VersionRecord::decode(&bytes, root) {
                    // A crash may leave the record of a version both here and there.
                    Ok(_) if directory == "receiving" && records.contains_key(&root) => {}
                    Ok(record) => {
                        if directory == "receiving" {
                            self.growing.extend(record.layers.iter().cloned());
                            self.half.insert(root);
                        }
                        records.insert(root, record);
                    }
                    Err(error) => self.report.error(format!("version {root}: {error}")),
                }
                if directory == "unclaimed" {
                    self.report.warn(format!(
                        "version {root} was never claimed; the server deletes it at its start"
                    ));
                }
            }
        }
        Ok(records)
    }

    /// Layers that no version uses, and files that no layer has.
    fn layers(&mut self) -> Result<(), CheckError> {
        for (name, path) in entries(&self.path.join("layers"))? {
            let known = LayerName::new(&name).is_some_and(|name| self.seen.contains_key(&name));
            if !known {
                self.report.warn(format!("layers/{name} is used by no version that can be read"));
                continue;
            }
            for (file, _) in entries(&path)? {
                if !["data", "present", "pages"].contains(&file.as_str()) {
                    self.report.warn(format!("layers/{name}/{file} does not belong there"));
                }
            }
        }
        self.report.layers = self.seen.len() as u32;
        Ok(())
    }

    fn quarantine(&mut self) {
        let bytes = fs::read(self.path.join(QUARANTINE_FILE)).unwrap_or_default();
        match quarantine::decode(&bytes) {
            Ok(bad) if bad.is_empty() => {}
            Ok(bad) => self.report.warn(format!("{} chunks are in quarantine", bad.len())),
            Err(error) => self.report.error(error.to_owned()),
        }
    }
}

/// Takes the lock for reading; a server has it for writing.
fn lock(path: &Path) -> Result<Option<File>, CheckError> {
    let file = match File::open(path.join("lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CheckError::Io { path: path.join("lock"), source }),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(CheckError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(CheckError::Io { path: path.join("lock"), source }),
    }
}

/// The names in a directory, in order; none where it is missing, which is told elsewhere.
fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, CheckError> {
    let failed = |source| CheckError::Io { path: directory.to_owned(), source };
    let list = match fs::read_dir(directory) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let entry = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
    };
    let mut entries = list.map(entry).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    entries.sort();
    Ok(entries)
}
