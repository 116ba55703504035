//! The names of a simulated file system: what the directories say, and what of it is durable.

use super::Numbers;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A name in a directory.
pub(super) type Key = (usize, OsString);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(usize),
    Directory(usize),
}

/// The present and the durable names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    present: Tree,
    durable: Tree,
    /// Changes that are not durable yet, in order.
    pending: Vec<Change>,
    last_id: usize,
}

/// All names at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(BTreeMap<Key, Entry>);

/// One change, which happens whole or not at all.
#[derive(Clone, Debug)]
struct Change {
    removed: Option<Key>,
    added: Option<(Key, Entry)>,
}

impl Names {
    /// The directory that everything lies in.
    pub(super) const ROOT: usize = 0;

    pub(super) fn new_id(&mut self) -> usize {
        self.last_id += 1;
        self.last_id
    }

    /// Notes a name that was there from the beginning.
    pub(super) fn take_in(&mut self, directory: usize, name: OsString, entry: Entry) {
        self.present.0.insert((directory, name.clone()), entry);
        self.durable.0.insert((directory, name), entry);
    }

    pub(super) fn add(&mut self, path: &Path, entry: Entry) {
        let key = self.key(path);
        self.change(Change { removed: None, added: Some((key, entry)) });
    }

    pub(super) fn remove(&mut self, path: &Path) {
        let key = self.key(path);
        self.change(Change { removed: Some(key), added: None });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        let (from, to) = (self.key(from), self.key(to));
        let entry = self.present.0[&from];
        self.change(Change { removed: Some(from), added: Some((to, entry)) });
    }

    /// What a path, which is there, stands for.
    pub(super) fn find(&self, path: &Path) -> Entry {
        self.present.0[&self.key(path)]
    }

    /// Makes the changes of a directory durable, with those that they build on.
    pub(super) fn sync(&mut self, path: &Path) {
        let directory = self.directory(path);
        let mut needed = BTreeSet::from([directory]);
        let mut kept = Vec::new();
        let mut done = Vec::new();
        // From the last to the first: whatever touches a directory that is needed is needed.
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            let touched = change.directories();
            if touched.iter().any(|directory| needed.contains(directory)) {
                needed.extend(touched);
                done.push(change);
            } else {
                kept.push(change);
            }
        }
        done.iter().rev().for_each(|change| self.durable.apply(change));
        self.pending = kept.into_iter().rev().collect();
    }

    /// What is durable, and of the pending changes any that no lost one comes before.
    pub(super) fn after_power_loss(&self, numbers: &mut Numbers) -> Tree {
        let mut tree = self.durable.clone();
        let mut stopped = BTreeSet::new();
        let chance = numbers.below(5);
        for change in &self.pending {
            let blocked = change.directories().iter().any(|directory| stopped.contains(directory));
            if blocked || numbers.below(4) >= chance {
                stopped.extend(change.directories());
            } else {
                tree.apply(change);
            }
        }
        tree
    }

    fn change(&mut self, change: Change) {
        self.present.apply(&change);
        self.pending.push(change);
    }

    fn key(&self, path: &Path) -> Key {
        let parent = path.parent().expect("a path below the root");
        (self.directory(parent), path.file_name().expect("a path with a name").to_owned())
    }

    fn directory(&self, path: &Path) -> usize {
        path.iter().fold(Self::ROOT, |directory, name| {
            match self.present.0.get(&(directory, name.to_owned())) {
                Some(Entry::Directory(id)) => *id,
                other => panic!("{path:?} is no directory: {other:?}"),
            }
        })
    }
}

impl Change {
    fn directories(&self) -> Vec<usize> {
        let keys = self.removed.iter().chain(self.added.iter().map(|(key, _)| key));
        keys.map(|(directory, _)| *directory).collect()
    }
}

impl Tree {
    fn apply(&mut self, change: &Change) {
        if let Some(key) = &change.removed {
            self.0.remove(key);
        }
        if let Some((key, entry)) = &change.added {
            self.0.insert(key.clone(), *entry);
        }
    }

    /// All names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.0.iter()
    }

    /// The directories that can be reached, with their paths below `root`.
    pub(super) fn directories(&self, root: &Path) -> BTreeMap<usize, PathBuf> {
        let mut found = BTreeMap::from([(Names::ROOT, root.to_owned())]);
        let mut open = vec![Names::ROOT];
        while let Some(directory) = open.pop() {
            let path = found[&directory].clone();
            for ((parent, name), entry) in &self.0 {
                if let (true, Entry::Directory(id)) = (*parent == directory, entry) {
                    found.insert(*id, path.join(name));
                    open.push(*id);
                }
            }
        }
        found
    }
}
