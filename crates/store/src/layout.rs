//! The directory of a store: its marker, its lock, and what a crash may have left in it.
//!
//! ```text
//! format            "headwater store, revision 1\n"
//! lock              held exclusively (flock) by the one process that has the store open
//! drafts/NAME/      a draft: its head, data and state logs (draft/open.rs)
//! incoming/         imports under way; removed whole when the store is opened
//! layers/NAME/      data, present, pages: one layer, immutable once it is complete
//! receiving/ROOT    record of a version that is here in part and comes from peers
//! unclaimed/ROOT    record of a version that no farm record names yet
//! versions/ROOT     record of a version that the farm knows
//! ```

use crate::draft::DraftName;
use crate::durable;
use crate::files::Files;
use crate::record::{LayerName, VersionRecord};
use model::Root;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMAT: &str = "headwater store, revision 1\n";
const DIRECTORIES: [&str; 6] = ["drafts", "incoming", "layers", "receiving", "unclaimed", "versions"];
/// Names that may lie in a store's directory before its format file does, or beside it.
const OWN_FILES: [&str; 4] = ["format", "format.new", "lock", "lost+found"];

/// Why a store cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The lock is taken.
    #[error(
        "the store {path} is in use by {holder}\n\
         hint: one process has a store open; stop the other server, or give this one a store of its own"
    )]
    InUse {
        /// The store's directory.
        path: PathBuf,
        /// `process 1234`, or `another process`.
        holder: String,
    },
    /// The directory holds something else.
    #[error(
        "{path} is not a store: it has {found:?} in it\n\
         hint: give an empty directory, or one that does not exist yet"
    )]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// The first foreign name found.
        found: String,
    },
    /// Written by another version of this program.
    #[error(
        "the store {path} has the format {found:?}, this program reads revision 1 only\n\
         hint: use the program that wrote it, or a newer one"
    )]
    UnknownFormat {
        /// The store's directory.
        path: PathBuf,
        /// The beginning of its format file.
        found: String,
    },
    /// No version has this root.
    #[error("this store has no version {0}")]
    Missing(Root),
    /// A draft stands on the version.
    #[error(
        "version {root} is needed by the draft {draft}\n\
         hint: it can be deleted once the draft is sealed, discarded or past its next checkpoint"
    )]
    NeededByDraft {
        /// The version.
        root: Root,
        /// The draft.
        draft: DraftName,
    },
    /// The version below a new one has as many layers as a version may have.
    #[error("version {0} has too many layers for another one above it\nhint: merge its older versions first")]
    TooManyLayers(Root),
    /// The file system failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Puts the words "what was being done" on a system error.
pub(crate) fn io_error(context: impl Into<String>) -> impl FnOnce(io::Error) -> StoreError {
    let context = context.into();
    move |source| StoreError::Io { context, source }
}

/// The paths of a store, and its lock for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    files: Arc<dyn Files>,
    _lock: File,
}

/// A version as found in the store's directory.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Whether the farm knows the version.
    pub(crate) claim: Claim,
    /// The record, or why it cannot be read.
    pub(crate) record: Result<VersionRecord, String>,
}

/// Where a version's record lies: `versions/`, `unclaimed/` or `receiving/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Complete, and the farm knows it.
    Claimed,
    /// Complete; no farm record names it yet.
    Unclaimed,
    /// Here in part.
    Receiving,
}

impl Layout {
    /// Creates or opens the directory, takes the lock and checks the format.
    pub(crate) fn open(path: &Path, files: Arc<dyn Files>) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(io_error(format!("cannot create {}", path.display())))?;
        let format = read_format(path)?;
        if format.is_none() {
            refuse_foreign(path)?;
        }
        let lock = lock(path)?;
        let layout = Self { path: path.to_owned(), files, _lock: lock };
        match format {
            None => layout.create()?,
            Some(()) => {
                layout.create_newer_directories()?;
                layout.settle()?;
            }
        }
        Ok(layout)
    }

    /// Makes what the directories say durable before anything builds on it: who was killed between
    /// a rename and its sync left a name that is seen and that a power loss takes back.
    fn settle(&self) -> Result<(), StoreError> {
        let directories = DIRECTORIES.map(|name| self.path.join(name));
        let mut all = directories.iter().chain([&self.path]);
        all.try_for_each(|path| durable::sync_directory(self.files(), path))
            .map_err(io_error(format!("cannot make sure of the store {}", self.path.display())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file system that the store is written through.
    pub(crate) fn files(&self) -> &dyn Files {
        &*self.files
    }

    /// The same, for what keeps it.
    pub(crate) fn shared_files(&self) -> Arc<dyn Files> {
        Arc::clone(&self.files)
    }

    pub(crate) fn drafts(&self) -> PathBuf {
        self.path.join("drafts")
    }

    pub(crate) fn draft(&self, name: &DraftName) -> PathBuf {
        self.drafts().join(name.as_str())
    }

    pub(crate) fn incoming(&self) -> PathBuf {
        self.path.join("incoming")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.path.join("layers")
    }

    pub(crate) fn layer(&self, name: &LayerName) -> PathBuf {
        self.layers().join(name.as_str())
    }

    pub(crate) fn record(&self, claim: Claim, root: &Root) -> PathBuf {
        let directory = match claim {
            Claim::Claimed => "versions",
            Claim::Unclaimed => "unclaimed",
            Claim::Receiving => "receiving",
        };
        self.path.join(directory).join(root.to_string())
    }

    /// Makes the directories, and last the format file that says they are all there.
    fn create(&self) -> Result<(), StoreError> {
        let make = || {
            for name in DIRECTORIES {
                match fs::create_dir(self.path.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
            }
            let new = self.path.join("format.new");
            let _ = fs::remove_file(&new);
            durable::create_file(self.files(), &new, FORMAT.as_bytes())?;
            durable::publish(self.files(), &new, &self.path.join("format"))
        };
        make().map_err(io_error(format!("cannot create the store {}", self.path.display())))
    }

    /// Older stores have no place for drafts, or for what is being received.
    fn create_newer_directories(&self) -> Result<(), StoreError> {
        for name in ["drafts", "receiving"] {
            match fs::create_dir(self.path.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made.and_then(|()| durable::sync_directory(self.files(), &self.path)),
            }
            .map_err(io_error(format!("cannot make room for {name} in the store")))?;
        }
        Ok(())
    }

    /// Removes what imports left that never finished.
    pub(crate) fn remove_half_imports(&self) -> Result<(), StoreError> {
        for entry in entries(&self.incoming())? {
            tracing::info!(path = %entry.display(), "removing an import that never finished");
            remove(&entry).map_err(io_error(format!("cannot remove {}", entry.display())))?;
        }
        Ok(())
    }

    /// Lists the versions whose records are in place; damaged records are listed as such.
    pub(crate) fn versions(&self) -> Result<BTreeMap<Root, Found>, StoreError> {
        let mut versions = BTreeMap::new();
        // Where a crash left two records of a version, the one of the complete version counts.
        for claim in [Claim::Receiving, Claim::Unclaimed, Claim::Claimed] {
            let directory = self.record(claim, &Root::from_bytes([0; 32]));
            let directory = directory.parent().expect("a record lies in a directory");
            for path in entries(directory)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let Ok(root) = name.parse::<Root>() else {
                    tracing::warn!(path = %path.display(), "ignoring a file that is no version's record");
                    continue;
                };
                let record = read_record(&path, root);
                if let (Err(reason), Claim::Receiving) = (&record, claim) {
                    tracing::warn!(%root, reason, "the record of what is here of a version is damaged, it is fetched again");
                    let _ = fs::remove_file(&path);
                    continue;
                }
                if let Err(reason) = &record {
                    tracing::error!(%root, reason, "the record of a version is damaged");
                }
                if versions.insert(root, Found { claim, record }).is_some() {
                    let half = self.record(Claim::Receiving, &root);
                    let _ = fs::remove_file(half);
                }
            }
        }
        Ok(versions)
    }

    /// Removes the layers that no version uses; answers the bytes they took. Keeps them all while
    /// a record is unreadable: what it uses is not known.
    pub(crate) fn remove_orphan_layers(&self, versions: &BTreeMap<Root, Found>) -> Result<u64, StoreError> {
        if versions.values().any(|found| found.record.is_err()) {
            tracing::warn!("not looking for unused layers while a version's record is damaged");
            return Ok(0);
        }
        let records = versions.values().filter_map(|found| found.record.as_ref().ok());
        let used: BTreeSet<&str> = records.flat_map(|record| &record.layers).map(LayerName::as_str).collect();
        let mut bytes = 0;
        for path in entries(&self.layers())? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if LayerName::new(name).is_some() && !used.contains(name) {
                if bytes == 0 {
                    self.sync_records()?;
                }
                tracing::info!(path = %path.display(), "removing a layer that no version uses");
                let context = || io_error(format!("cannot remove {}", path.display()));
                bytes += used_bytes(&path).map_err(context())?;
                remove(&path).map_err(context())?;
            }
        }
        Ok(bytes)
    }

    /// Makes the records that are read now the ones that a power loss leaves: an exchanged record
    /// whose sync was cut short by a kill would else give way to one whose layers are gone.
    fn sync_records(&self) -> Result<(), StoreError> {
        for claim in [Claim::Claimed, Claim::Unclaimed] {
            let record = self.record(claim, &Root::from_bytes([0; 32]));
            let directory = record.parent().expect("a record lies in a directory");
            durable::sync_directory(self.files(), directory)
                .map_err(io_error(format!("cannot sync {}", directory.display())))?;
        }
        Ok(())
    }
}

impl Layout {
    /// The bytes that the files of all drafts take on the disk.
    pub(crate) fn used_by_drafts(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for draft in fs::read_dir(self.drafts())? {
            bytes += match used_bytes(&draft?.path()) {
                // Deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                used => used?,
            };
        }
        Ok(bytes)
    }
}

/// The bytes that the files of a directory take on the disk.
pub(crate) fn used_bytes(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list =
        || -> io::Result<Vec<PathBuf>> { fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect() };
    list().map_err(io_error(format!("cannot list {}", directory.display())))
}

fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

fn read_record(path: &Path, root: Root) -> Result<VersionRecord, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    VersionRecord::decode(&bytes, root).map_err(|error| error.to_string())
}

/// Answers none where there is no format file; refuses another revision.
fn read_format(path: &Path) -> Result<Option<()>, StoreError> {
    let mut text = Vec::new();
    match File::open(path.join("format")) {
        Ok(file) => file.take(64).read_to_end(&mut text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    }
    .map_err(io_error(format!("cannot read the format of the store {}", path.display())))?;
    if text == FORMAT.as_bytes() {
        return Ok(Some(()));
    }
    let found = String::from_utf8_lossy(&text).trim_end().to_owned();
    Err(StoreError::UnknownFormat { path: path.to_owned(), found })
}

/// Refuses a directory in which something lies that a store being created does not have.
fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    for entry in entries(path)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let empty_directory = || entries(&entry).is_ok_and(|inner| inner.is_empty());
        let ours =
            OWN_FILES.contains(&name.as_str()) || DIRECTORIES.contains(&name.as_str()) && empty_directory();
        if !ours {
            return Err(StoreError::NotAStore { path: path.to_owned(), found: name });
        }
    }
    Ok(())
}

/// Takes the lock, and leaves this process's number in the file for the message of the next one.
fn lock(path: &Path) -> Result<File, StoreError> {
    let context = || format!("cannot lock the store {}", path.display());
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join("lock"))
        .map_err(io_error(context()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::InUse { path: path.to_owned(), holder: holder(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(io_error(context())(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io_error(context()))?;
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(20).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    }
}
