//! A server's disk: contents that are here in part or whole, and drafts. It keeps the store's order
//! and nothing else of it: data is written, synced, and only then called present; what was not
//! synced may or may not survive a crash.

use crate::Flaw;
use crate::random::{Random, mix};
use model::{Root, VersionNumber};
use std::collections::{BTreeMap, BTreeSet};

/// The chunks of the one virtual disk.
pub const CHUNKS: u32 = 24;

/// The bytes of a disk, one number for each chunk; 0 is a chunk of zeros.
pub type Bytes = Vec<u64>;

/// What a chunk reads as whose bytes never reached the disk.
const LOST: u64 = u64::MAX;

/// The root that names these bytes.
pub fn root_of(bytes: &Bytes) -> Root {
    let lane = |seed: u64| bytes.iter().fold(seed, |sum, chunk| mix(sum.rotate_left(5) ^ *chunk));
    let lanes: Vec<u8> = (1..=4).flat_map(|seed| lane(seed).to_le_bytes()).collect();
    Root::from_bytes(lanes.try_into().expect("four times eight"))
}

/// The content of one root, as far as it is here.
#[derive(Clone, Debug, Default)]
struct Content {
    data: BTreeMap<u32, u64>,
    /// Data that would survive a power loss.
    synced: BTreeSet<u32>,
    /// What is called present, durably.
    present: BTreeSet<u32>,
}

/// The files of a draft.
#[derive(Clone, Debug)]
pub struct Files {
    /// The content below.
    pub base: Root,
    bytes_below: Bytes,
    written: Vec<(u32, u64)>,
    synced: usize,
}

impl Files {
    /// Files without a write, above a content.
    pub fn above(base: Root, bytes_below: Bytes) -> Self {
        Self { base, bytes_below, written: Vec::new(), synced: 0 }
    }

    /// Writes a chunk; nobody may be told that it is safe yet.
    pub fn write(&mut self, chunk: u32, value: u64) {
        self.written.push((chunk, value));
    }

    /// Makes all writes durable; returns those that were not.
    pub fn flush(&mut self) -> Vec<(u32, u64)> {
        let new = self.written[self.synced..].to_vec();
        self.synced = self.written.len();
        new
    }

    /// What the disk reads as.
    pub fn bytes(&self) -> Bytes {
        let mut bytes = self.bytes_below.clone();
        self.written.iter().for_each(|(chunk, value)| bytes[*chunk as usize] = *value);
        bytes
    }
}

/// One server's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    contents: BTreeMap<Root, Content>,
    /// Synced and not yet called present.
    to_call: Vec<(Root, u32)>,
    /// The drafts that were written here.
    pub drafts: BTreeMap<VersionNumber, Files>,
}

impl Disk {
    /// Makes room for a content that is to come.
    pub fn begin(&mut self, root: Root) {
        self.contents.entry(root).or_default();
    }

    /// Whether anything is known of a content.
    pub fn knows(&self, root: Root) -> bool {
        self.contents.contains_key(&root)
    }

    /// Every content that is here, in part or whole.
    pub fn roots(&self) -> impl Iterator<Item = Root> + '_ {
        self.contents.keys().copied()
    }

    /// Writes a whole content and waits until it is durable: a checkpoint, an import.
    pub fn put_whole(&mut self, root: Root, bytes: &Bytes) {
        let data: BTreeMap<u32, u64> = (0..).zip(bytes.iter().copied()).collect();
        let (synced, present) = (data.keys().copied().collect(), data.keys().copied().collect());
        self.contents.insert(root, Content { data, synced, present });
    }

    /// Writes a verified chunk that came from a peer.
    pub fn put(&mut self, root: Root, chunk: u32, value: u64, flaw: Flaw) {
        let Some(content) = self.contents.get_mut(&root) else { return };
        content.data.insert(chunk, value);
        if flaw == Flaw::PresenceBeforeData {
            content.present.insert(chunk);
        }
    }

    /// Syncs the data of all contents: the first of two steps.
    pub fn sync_data(&mut self) {
        for (root, content) in &mut self.contents {
            let new: Vec<u32> =
                content.data.keys().copied().filter(|c| !content.synced.contains(c)).collect();
            content.synced.extend(&new);
            self.to_call.extend(new.into_iter().map(|chunk| (*root, chunk)));
        }
    }

    /// Calls present what was synced: the second step.
    pub fn call_present(&mut self) {
        for (root, chunk) in std::mem::take(&mut self.to_call) {
            if let Some(content) = self.contents.get_mut(&root) {
                content.present.insert(chunk);
            }
        }
    }

    /// What a chunk reads as, where it is here.
    pub fn read(&self, root: Root, chunk: u32) -> Option<u64> {
        let content = self.contents.get(&root)?;
        let present = content.present.contains(&chunk);
        content.data.get(&chunk).copied().or(present.then_some(LOST))
    }

    /// What is durably present.
    pub fn present(&self, root: Root) -> Vec<u32> {
        self.contents.get(&root).map_or_else(Vec::new, |content| content.present.iter().copied().collect())
    }

    /// What is not here, synced or not.
    pub fn missing(&self, root: Root) -> Vec<u32> {
        (0..CHUNKS).filter(|chunk| self.read(root, *chunk).is_none()).collect()
    }

    /// Whether all of a content is durably present.
    pub fn is_whole(&self, root: Root) -> bool {
        self.contents.get(&root).is_some_and(|content| content.present.len() == CHUNKS as usize)
    }

    /// Deletes a content.
    pub fn delete(&mut self, root: Root) {
        self.contents.remove(&root);
    }

    /// The power goes: of what was not synced, some survives.
    pub fn lose_power(&mut self, random: &mut Random) {
        self.to_call.clear();
        for content in self.contents.values_mut() {
            // What is not called present is not looked for again, whether it survived or not.
            let Content { data, synced, present } = content;
            data.retain(|chunk, _| synced.contains(chunk) && present.contains(chunk));
            synced.retain(|chunk| present.contains(chunk));
        }
        for files in self.drafts.values_mut() {
            let kept = files.synced + random.below((files.written.len() - files.synced) as u64 + 1) as usize;
            files.written.truncate(kept);
            files.synced = kept;
        }
    }
}
