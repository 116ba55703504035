//! A checkpoint: the present state becomes a layer and a version, and the draft goes on above it.
//!
//! 1. The active generation is flushed and frozen, an empty one is opened above it (one head
//!    replaced); writes go on there.
//! 2. The frozen chunks are completed from the version below where only a part of them was
//!    written, and hashed. Nothing that a reader of the frozen generation sees changes by that.
//! 3. A layer is staged: the frozen data file under a second name, presence, the manifest pages
//!    that changed; it is published as an import's is.
//! 4. The draft is moved onto the new version (one head replaced), the frozen files' first names
//!    are removed, and chunks that turned out to be unchanged give their space back.
//!
//! A crash before 4 leaves the frozen generation where it is, and the next checkpoint makes the
//! layer again; the version that may be there already is the same one.

mod complete;

use super::blocks::ChunkEntry;
use super::error::file_error;
use super::generation::{Generation, data_path, log_path};
use super::head::Head;
use super::log::LogName;
use super::{Draft, DraftError};
use crate::durable;
use crate::import::Quiet;
use crate::layer::{DATA_FILE, PAGES_FILE, PRESENCE_FILE};
use crate::layout::StoreError;
use crate::page_pack::PagePackWriter;
use crate::presence::{ChunkState, Presence};
use crate::record::LayerName;
use crate::version::StoredVersion;
use complete::{Completed, Outcome};
use model::manifest::page_of;
use model::{ByteRange, ChunkIndex, Manifest, Root};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Hears how a checkpoint goes.
pub trait CheckpointObserver: Sync {
    /// So many bytes of the changed chunks are done, of so many.
    fn progress(&self, done_bytes: u64, total_bytes: u64);

    /// Whether to stop: the draft goes on as it is, with nothing lost and nothing published.
    fn cancelled(&self) -> bool;
}

impl CheckpointObserver for Quiet {
    fn progress(&self, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// What a checkpoint made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the draft's content: of a version that is durable, and unclaimed where it is new.
    pub root: Root,
    /// Chunks that are not what they were in the version below.
    pub changed_chunks: u32,
    /// Bytes read: of the draft, and of the version below where a chunk was written in part.
    pub bytes_read: u64,
    /// Bytes written beyond those that the draft had written already.
    pub bytes_written: u64,
}

impl Checkpoint {
    fn of_nothing(root: Root) -> Self {
        Self { root, changed_chunks: 0, bytes_read: 0, bytes_written: 0 }
    }
}

impl Draft {
    /// Makes the present state durable as a version; writes go on meanwhile and are not part of it.
    ///
    /// The version is unclaimed, as after an import, and cannot be deleted while the draft stands
    /// on it. Where nothing was changed the answer is the version that is there already. After an
    /// error the draft goes on as it is, and another checkpoint begins where this one ended.
    pub fn checkpoint(&self, observer: &dyn CheckpointObserver) -> Result<Checkpoint, DraftError> {
        let _alone = self.checkpointing.lock().expect(super::NO_PANIC);
        self.check_usable()?;
        let before = match self.frozen() {
            Some(frozen) => self.publish_frozen(&frozen, observer)?,
            None => Checkpoint::of_nothing(self.parent_root()),
        };
        let Some(frozen) = self.freeze()? else { return Ok(before) };
        let now = self.publish_frozen(&frozen, observer)?;
        Ok(Checkpoint {
            root: now.root,
            changed_chunks: before.changed_chunks + now.changed_chunks,
            bytes_read: before.bytes_read + now.bytes_read,
            bytes_written: before.bytes_written + now.bytes_written,
        })
    }

    fn frozen(&self) -> Option<Arc<Generation>> {
        self.world().frozen.clone()
    }

    /// Puts an empty generation above the active one; answers none where nothing was written.
    fn freeze(&self) -> Result<Option<Arc<Generation>>, DraftError> {
        // Most of what is to be synced is synced before anybody has to wait.
        self.flush()?;
        let number = self.world().active.number + 1;
        if self.world().active.table.len() == 0 {
            return Ok(None);
        }
        let next = self.next_generation(number).map_err(file_error("cannot begin a generation"))?;
        let mut world = self.world_mut();
        self.check_usable()?;
        self.flush_generation(&world.active)?;
        let frozen = Arc::clone(&world.active);
        self.replace_head(&Head {
            size: self.size,
            parent: world.parent.root(),
            active: number,
            frozen: Some(frozen.number),
        })?;
        world.frozen = Some(Arc::clone(&frozen));
        world.active = Arc::new(next);
        Ok(Some(frozen))
    }

    fn next_generation(&self, number: u64) -> io::Result<Generation> {
        for path in self.paths_of(number) {
            remove_if_there(self, &path)?;
        }
        let next = Generation::create(
            self.files(),
            &self.directory,
            LogName { size: self.size, generation: number },
        )?;
        self.files().sync_directory(&self.directory)?;
        Ok(next)
    }

    /// Makes a version of the frozen generation and moves the draft onto it.
    fn publish_frozen(
        &self,
        frozen: &Generation,
        observer: &dyn CheckpointObserver,
    ) -> Result<Checkpoint, DraftError> {
        let parent = Arc::clone(&self.world().parent);
        let entries = frozen.table.entries();
        let completed = complete::chunks(&*frozen.data, &entries, &parent, observer)?;
        let mut checkpoint = Checkpoint::of_nothing(parent.root());
        checkpoint.changed_chunks = completed.changed();
        checkpoint.bytes_read = completed.bytes_read;
        checkpoint.bytes_written = completed.bytes_written;
        let next = match checkpoint.changed_chunks {
            0 => parent,
            _ => {
                let (root, written) = self.publish_layer(frozen, &parent, &entries, &completed)?;
                checkpoint.root = root;
                checkpoint.bytes_written += written;
                self.store.version(&root)?
            }
        };
        self.move_onto(next, frozen)?;
        self.give_back(frozen, &entries, &completed);
        Ok(checkpoint)
    }

    /// Gives back the space of chunks that the layer does not have: they are what they were in the
    /// version below. Not before the draft stands on the layer's version: until then it reads them
    /// from this file, also after a crash. One that comes before this costs their space.
    fn give_back(&self, frozen: &Generation, entries: &[ChunkEntry], completed: &Completed) {
        let unchanged = entries.iter().zip(&completed.outcomes).filter(|(_, o)| **o == Outcome::Unchanged);
        for ((chunk, _), _) in unchanged {
            let _ = frozen.data.punch_hole(chunk.offset(), u64::from(self.size.chunk_len(*chunk)));
        }
    }

    /// Publishes the layer and its version; answers the root and the bytes that were written.
    fn publish_layer(
        &self,
        frozen: &Generation,
        parent: &StoredVersion,
        entries: &[ChunkEntry],
        completed: &Completed,
    ) -> Result<(Root, u64), DraftError> {
        frozen.data.sync().map_err(|error| self.fail(error.to_string()))?;
        let pages = new_pages(parent, entries, completed)?;
        let root = pages.manifest.root();
        self.store.draft_table().hold(&self.name, root);
        let stage = Stage { name: self.store.new_layer_name(), draft: self };
        let presence = presence_of(self.size, entries, completed);
        let written = stage.fill(frozen.number, &pages.pack, &presence.encode());
        let written = written.map_err(file_error("cannot write the checkpoint's layer"));
        let published = written.and_then(|written| {
            let new = self.store.publish_over(&parent.root(), &stage.path(), &stage.name, pages.manifest);
            new.map(|new| (new, written)).map_err(store_error)
        });
        match published {
            Ok((true, written)) => Ok((root, written)),
            Ok((false, written)) => {
                stage.remove();
                Ok((root, written))
            }
            Err(error) => {
                stage.remove();
                Err(error)
            }
        }
    }

    /// Lets the draft stand on `parent`, which has all that the frozen generation had.
    fn move_onto(&self, parent: Arc<StoredVersion>, frozen: &Generation) -> Result<(), DraftError> {
        let mut world = self.world_mut();
        self.check_usable()?;
        let (size, active) = (self.size, world.active.number);
        self.replace_head(&Head { size, parent: parent.root(), active, frozen: None })?;
        world.parent = parent;
        world.frozen = None;
        drop(world);
        for path in self.paths_of(frozen.number) {
            // What cannot be removed now goes when the draft is opened next.
            let _ = self.files().remove_file(&path);
        }
        Ok(())
    }

    fn paths_of(&self, number: u64) -> [PathBuf; 2] {
        [data_path(&self.directory, number), log_path(&self.directory, number)]
    }
}

/// The directory of a layer that is being made.
struct Stage<'a> {
    name: LayerName,
    draft: &'a Draft,
}

impl Stage<'_> {
    fn path(&self) -> PathBuf {
        self.draft.store.layout().incoming().join(self.name.as_str())
    }

    /// Makes the layer's files durable; answers the bytes written.
    fn fill(&self, generation: u64, pages: &[u8], presence: &[u8]) -> io::Result<u64> {
        let (files, path) = (self.draft.files(), self.path());
        files.create_directory(&path)?;
        files.hard_link(&data_path(&self.draft.directory, generation), &path.join(DATA_FILE))?;
        durable::create_file(files, &path.join(PAGES_FILE), pages)?;
        durable::create_file(files, &path.join(PRESENCE_FILE), presence)?;
        files.sync_directory(&path)?;
        Ok((pages.len() + presence.len()) as u64)
    }

    fn remove(&self) {
        let path = self.path();
        for file in [DATA_FILE, PAGES_FILE, PRESENCE_FILE] {
            let _ = self.draft.files().remove_file(&path.join(file));
        }
        let _ = self.draft.files().remove_directory(&path);
    }
}

/// The manifest of the new version, and the pack of the pages that its parent has not.
struct NewPages {
    manifest: Manifest,
    pack: Vec<u8>,
}

/// Reads, changes and names the pages that have changed chunks; all others stay the parent's.
fn new_pages(
    parent: &StoredVersion,
    entries: &[ChunkEntry],
    completed: &Completed,
) -> Result<NewPages, DraftError> {
    let mut changes: BTreeMap<usize, Vec<(usize, Outcome)>> = BTreeMap::new();
    for ((chunk, _), outcome) in entries.iter().zip(&completed.outcomes) {
        if *outcome != Outcome::Unchanged {
            let (page, place) = page_of(*chunk);
            changes.entry(page).or_default().push((place, *outcome));
        }
    }
    let mut names = parent.manifest().pages().to_vec();
    let mut pack = PagePackWriter::new(Vec::new());
    let in_memory = "writing to memory does not fail";
    for (number, changes) in changes {
        let mut page = (*parent.page(number, ChunkIndex(0))?).clone();
        changes.into_iter().for_each(|(place, outcome)| page.set(place, outcome.hash()));
        names[number] = pack.add(&page).expect(in_memory);
    }
    let manifest = Manifest::new(parent.size(), names);
    Ok(NewPages { manifest, pack: pack.finish().expect(in_memory) })
}

fn presence_of(size: model::DiskSize, entries: &[ChunkEntry], completed: &Completed) -> Presence {
    let mut presence = Presence::absent(size);
    for ((chunk, _), outcome) in entries.iter().zip(&completed.outcomes) {
        match outcome {
            Outcome::Unchanged => {}
            Outcome::Zero => presence.set(*chunk, ChunkState::Zero),
            Outcome::Stored(_) => presence.set(*chunk, ChunkState::Stored),
        }
    }
    presence
}

/// A full file system is the same to the caller wherever it was met.
fn store_error(error: StoreError) -> DraftError {
    match error {
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => DraftError::NoSpace,
        other => DraftError::Store(other),
    }
}

fn remove_if_there(draft: &Draft, path: &Path) -> io::Result<()> {
    match draft.files().remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The bytes of a range of a chunk's blocks that lie inside the disk.
fn inside(size: model::DiskSize, chunk: ChunkIndex, from: u32, len: u32) -> ByteRange {
    let end = (from + len).min(size.chunk_len(chunk));
    ByteRange::new(chunk.offset() + u64::from(from), u64::from(end.saturating_sub(from)))
}
