//! The drafts of a store: their coming and going, and what a crash left of them.
//!
//! ```text
//! drafts/NAME/head      what the draft stands on (head.rs)
//! drafts/NAME/N.data    data of generation N
//! drafts/NAME/N.log     state log of generation N (log.rs)
//! ```
//!
//! A draft is made and unmade by one rename between `incoming/` and `drafts/`. Files of a draft
//! that its head does not name are left over from a checkpoint and removed when it is opened.

use super::error::file_error;
use super::generation::{Generation, OpenError, data_path, log_path};
use super::head::{HEAD_BYTES, Head};
use super::log::LogName;
use super::name::DraftName;
use super::{Draft, DraftError, World};
use crate::durable;
use crate::layout::used_bytes;
use crate::store::Store;
use model::{DiskSize, Root};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};

const HEAD_FILE: &str = "head";

/// The drafts that a store has.
///
/// Locks are taken in this order: `open`, those of a draft, `known`.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    /// Held while a draft comes or goes or is opened.
    open: Mutex<BTreeMap<DraftName, Weak<Draft>>>,
    known: Mutex<BTreeMap<DraftName, Known>>,
}

/// A draft as far as it is known without opening it.
#[derive(Debug)]
struct Known {
    head: Result<Head, String>,
    /// Versions that must stay: what the draft stands on, and what a checkpoint is moving it to.
    needs: BTreeSet<Root>,
}

/// What is known about a draft without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftSummary {
    /// Its name.
    pub name: DraftName,
    /// The version that it stands on and the size of its disk, or how its head is damaged.
    pub stands_on: Result<(Root, DiskSize), String>,
    /// Bytes that its files take on the disk.
    pub used_bytes: u64,
    /// Whether someone has it open.
    pub is_open: bool,
}

impl Drafts {
    /// Reads the heads of the drafts in `directory`.
    pub(crate) fn find(directory: &Path) -> io::Result<Self> {
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_str().and_then(|name| DraftName::new(name).ok());
            let Some(name) = name.filter(|_| entry.path().is_dir()) else {
                tracing::warn!(path = %entry.path().display(), "ignoring a file that is no draft");
                continue;
            };
            let head = read_head(&entry.path());
            if let Err(reason) = &head {
                tracing::error!(draft = %name, reason, "the head of a draft is damaged");
            }
            known.insert(name, Known::new(head));
        }
        Ok(Self { open: Mutex::default(), known: Mutex::new(known) })
    }

    /// The draft that needs a version, if there is one.
    pub(crate) fn that_needs(&self, root: &Root) -> Option<DraftName> {
        self.known().iter().find(|(_, known)| known.needs.contains(root)).map(|(name, _)| name.clone())
    }

    /// Every version that a draft needs.
    pub(crate) fn needs(&self) -> BTreeSet<Root> {
        self.known().values().flat_map(|known| &known.needs).copied().collect()
    }

    /// Notes that a draft needs a version, too.
    pub(super) fn hold(&self, name: &DraftName, root: Root) {
        if let Some(known) = self.known().get_mut(name) {
            known.needs.insert(root);
        }
    }

    /// Notes what a draft stands on from now on.
    pub(super) fn moved(&self, name: &DraftName, head: Head) {
        if let Some(known) = self.known().get_mut(name) {
            *known = Known::new(Ok(head));
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<DraftName, Known>> {
        self.known.lock().expect(NO_PANIC)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<DraftName, Weak<Draft>>> {
        self.open.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no thread panics while it holds the drafts";

impl Known {
    fn new(head: Result<Head, String>) -> Self {
        let needs = head.iter().map(|head| head.parent).collect();
        Self { head, needs }
    }
}

/// Reads the head of the draft in `directory`, or says what is wrong with it.
pub(crate) fn read_head(directory: &Path) -> Result<Head, String> {
    let path = directory.join(HEAD_FILE);
    let bytes = match fs::metadata(&path) {
        Ok(metadata) if metadata.len() == HEAD_BYTES as u64 => fs::read(&path),
        Ok(metadata) => return Err(format!("its head has {} bytes", metadata.len())),
        Err(error) => Err(error),
    };
    Head::decode(&bytes.map_err(|error| format!("its head cannot be read: {error}"))?)
}

impl Store {
    /// Makes an empty draft above the version `parent`, durable when this returns.
    pub fn create_draft(&self, name: &DraftName, parent: &Root) -> Result<Arc<Draft>, DraftError> {
        let mut open = self.draft_table().open();
        let known = Known { head: Err("it is being made".into()), needs: BTreeSet::from([*parent]) };
        match self.draft_table().known().entry(name.clone()) {
            Entry::Occupied(_) => return Err(DraftError::Exists(name.clone())),
            // The version cannot be deleted from now on.
            Entry::Vacant(entry) => entry.insert(known),
        };
        let make = || {
            let size = self.version(parent)?.size();
            let head = Head { size, parent: *parent, active: 1, frozen: None };
            self.make_draft(name, &head).map_err(file_error("cannot create the draft"))?;
            self.draft_table().moved(name, head);
            Ok(())
        };
        if let Err(error) = make() {
            self.draft_table().known().remove(name);
            return Err(error);
        }
        self.open_in(&mut open, name)
    }

    /// Opens a draft as its last flush or a crash left it, or hands out the one that is open
    /// already.
    ///
    /// A draft whose disk failed is opened anew: who held it before finds it closed.
    pub fn open_draft(&self, name: &DraftName) -> Result<Arc<Draft>, DraftError> {
        self.open_in(&mut self.draft_table().open(), name)
    }

    /// The drafts of this store, in the order of their names.
    pub fn drafts(&self) -> Vec<DraftSummary> {
        let open = self.draft_table().open();
        let known = self.draft_table().known();
        let summary = |(name, known): (&DraftName, &Known)| DraftSummary {
            name: name.clone(),
            stands_on: known.head.as_ref().map(|head| (head.parent, head.size)).map_err(Clone::clone),
            used_bytes: used_bytes(&self.layout().draft(name)).unwrap_or(0),
            is_open: open.get(name).is_some_and(|draft| draft.strong_count() > 0),
        };
        known.iter().map(summary).collect()
    }

    /// The versions that drafts stand on; they cannot be deleted.
    pub fn roots_of_drafts(&self) -> BTreeSet<Root> {
        self.draft_table().needs()
    }

    /// Deletes a draft with all that was written to it since its last checkpoint. Who has it open
    /// finds it closed.
    pub fn delete_draft(&self, name: &DraftName) -> Result<(), DraftError> {
        let mut open = self.draft_table().open();
        self.close_in(&mut open, name)?;
        let gone = self.layout().incoming().join(format!("deleted.{name}"));
        let remove = || {
            durable::publish(self.files(), &self.layout().draft(name), &gone)?;
            self.files().sync_directory(&self.layout().drafts())
        };
        remove().map_err(file_error("cannot delete the draft"))?;
        self.draft_table().known().remove(name);
        // What cannot be removed now goes when the store is opened next.
        let _ = remove_files(self, &gone);
        Ok(())
    }

    /// Gives a draft another name. Who has it open finds it closed.
    pub fn rename_draft(&self, from: &DraftName, to: &DraftName) -> Result<(), DraftError> {
        let mut open = self.draft_table().open();
        if self.draft_table().known().contains_key(to) {
            return Err(DraftError::Exists(to.clone()));
        }
        self.close_in(&mut open, from)?;
        let (old, new) = (self.layout().draft(from), self.layout().draft(to));
        durable::publish(self.files(), &old, &new).map_err(file_error("cannot rename the draft"))?;
        let mut known = self.draft_table().known();
        let moved = known.remove(from).expect("it was there when it was closed");
        known.insert(to.clone(), moved);
        Ok(())
    }

    fn open_in(
        &self,
        open: &mut BTreeMap<DraftName, Weak<Draft>>,
        name: &DraftName,
    ) -> Result<Arc<Draft>, DraftError> {
        if let Some(draft) = open.get(name).and_then(Weak::upgrade) {
            match draft.check_usable() {
                Ok(()) => return Ok(draft),
                Err(_) => draft.close(),
            }
        }
        if !self.draft_table().known().contains_key(name) {
            return Err(DraftError::Missing(name.clone()));
        }
        let draft = Arc::new(Draft::open(self, name)?);
        open.insert(name.clone(), Arc::downgrade(&draft));
        Ok(draft)
    }

    /// Closes a draft where it is open; refuses one that is not there.
    fn close_in(
        &self,
        open: &mut BTreeMap<DraftName, Weak<Draft>>,
        name: &DraftName,
    ) -> Result<(), DraftError> {
        if !self.draft_table().known().contains_key(name) {
            return Err(DraftError::Missing(name.clone()));
        }
        if let Some(draft) = open.remove(name).and_then(|draft| draft.upgrade()) {
            draft.close();
        }
        Ok(())
    }

    /// Makes the files of an empty draft under `incoming/` and moves them into place.
    fn make_draft(&self, name: &DraftName, head: &Head) -> io::Result<()> {
        let files = self.files();
        let staged = self.layout().incoming().join(format!("draft.{name}"));
        let _ = remove_files(self, &staged);
        files.create_directory(&staged)?;
        let make = || {
            Generation::create(files, &staged, LogName { size: head.size, generation: head.active })?;
            durable::create_file(files, &staged.join(HEAD_FILE), &head.encode())?;
            files.sync_directory(&staged)?;
            durable::publish(files, &staged, &self.layout().draft(name))
        };
        make().inspect_err(|_| drop(remove_files(self, &staged)))
    }
}

/// Removes a directory without directories in it.
fn remove_files(store: &Store, directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        store.files().remove_file(&entry?.path())?;
    }
    store.files().remove_directory(directory)
}

impl Draft {
    fn open(store: &Store, name: &DraftName) -> Result<Self, DraftError> {
        let directory = store.layout().draft(name);
        let corrupt = |reason| DraftError::Corrupt { name: name.clone(), reason };
        // A head whose sync failed, or that a kill came before, is seen but not there for good.
        store.files().sync_directory(&directory).map_err(file_error("cannot make sure of the draft"))?;
        let head = read_head(&directory).map_err(corrupt)?;
        remove_leftovers(store, &directory, &head).map_err(file_error("cannot tidy up the draft"))?;
        let open = |generation| {
            let opened = Generation::open(store.files(), &directory, LogName { size: head.size, generation });
            opened.map(Arc::new).map_err(|error| match error {
                OpenError::Damaged(reason) => corrupt(reason),
                OpenError::Io(error) => file_error("cannot open the draft")(error),
            })
        };
        let parent = store.version(&head.parent)?;
        if parent.size() != head.size {
            return Err(corrupt("the version below has another size".into()));
        }
        let world = World { active: open(head.active)?, frozen: head.frozen.map(open).transpose()?, parent };
        Ok(Self {
            store: store.clone(),
            name: name.clone(),
            directory,
            size: head.size,
            world: RwLock::new(world),
            checkpointing: Mutex::new(()),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        })
    }

    /// Makes `head` the draft's head; false knowledge is worse than none, so a failure that may
    /// have happened half-way ends the draft's use.
    pub(super) fn replace_head(&self, head: &Head) -> Result<(), DraftError> {
        let (path, new) = (self.directory.join(HEAD_FILE), self.directory.join("head.new"));
        let context = || file_error("cannot write the draft's head");
        match self.files().remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(context()(error)),
            _ => durable::create_file(self.files(), &new, &head.encode()).map_err(context())?,
        }
        durable::publish(self.files(), &new, &path).map_err(|error| self.fail(error.to_string()))?;
        self.store.draft_table().moved(&self.name, head.clone());
        Ok(())
    }
}

/// Removes the files that the head does not name.
fn remove_leftovers(store: &Store, directory: &Path, head: &Head) -> io::Result<()> {
    let generations = [Some(head.active), head.frozen];
    let files = |number| [data_path(directory, number), log_path(directory, number)];
    let mut keep: BTreeSet<PathBuf> = generations.into_iter().flatten().flat_map(files).collect();
    keep.insert(directory.join(HEAD_FILE));
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if !keep.contains(&path) {
            tracing::info!(path = %path.display(), "removing what a checkpoint left of a draft");
            store.files().remove_file(&path)?;
        }
    }
    Ok(())
}
