//! Opening a version, without keeping those waiting who use the store meanwhile.

use crate::record::VersionRecord;
use crate::store::{State, Store};
use crate::version::{StoredVersion, VersionError};
use model::Root;
use std::sync::Arc;

/// How often a version is opened beside the work of others before they have to wait for it.
const TRIES: u32 = 3;

/// How a version can be had.
enum Way {
    /// It is open already.
    Open(Arc<StoredVersion>),
    /// From files that do not change.
    Beside { record: VersionRecord, changes: u64 },
    /// One of its layers is being received: nobody may add to it meanwhile.
    Held,
}

impl Store {
    /// Opens a version, or hands out the one that is open already.
    ///
    /// The files of 1 TiB with 30 layers take 100 ms to read. Nobody waits for that but who wants
    /// to open a version too.
    pub fn version(&self, root: &Root) -> Result<Arc<StoredVersion>, VersionError> {
        if let Way::Open(version) = way(&self.state(), root)? {
            return Ok(version);
        }
        let _only_one = self.opening();
        for _ in 0..TRIES {
            let (record, changes) = match way(&self.state(), root)? {
                Way::Open(version) => return Ok(version),
                Way::Beside { record, changes } => (record, changes),
                Way::Held => break,
            };
            let opened = StoredVersion::open(self.layout(), *root, &record, |_| None);
            let mut state = self.state();
            // What somebody has changed meanwhile may be this version's layers.
            if state.versions.changes() == changes {
                return Ok(state.admit(opened?, self));
            }
        }
        let mut state = self.state();
        let record = record_of(&state, root)?;
        let opened = StoredVersion::open(self.layout(), *root, record, |name| state.presence_of(name))?;
        Ok(state.admit(opened, self))
    }
}

fn way(state: &State, root: &Root) -> Result<Way, VersionError> {
    if let Some(version) = state.opened(root) {
        return Ok(Way::Open(version));
    }
    let record = record_of(state, root)?;
    match record.layers.iter().any(|layer| state.growing.contains_key(layer)) {
        true => Ok(Way::Held),
        false => Ok(Way::Beside { record: record.clone(), changes: state.versions.changes() }),
    }
}

fn record_of<'a>(state: &'a State, root: &Root) -> Result<&'a VersionRecord, VersionError> {
    let found = state.versions.get(root).ok_or(VersionError::Missing(*root))?;
    let corrupt = |reason: &String| VersionError::Corrupt { root: *root, reason: reason.clone() };
    found.record.as_ref().map_err(corrupt)
}
