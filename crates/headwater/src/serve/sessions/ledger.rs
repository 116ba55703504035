//! What of the sessions outlives the server: one small file each, so that a machine whose server
//! was killed goes on with the same token, root and draft.
//!
//! A file is `STATE_DIR/sessions/HASH.json`, written beside itself, synced and renamed. HASH is the
//! hash of the token: nobody can open a disk with what is in here.

use super::token::TokenHash;
use super::{Holder, SessionInfo, SessionMode};
use model::{DiskSize, MacAddress, Name, Root, VersionNumber};
use protocol::plan::WriteCachePlan;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The revision of the record's format.
const REVISION: u32 = 1;

/// A session as it is kept (docs/formats.md, "Session record").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionRecord {
    /// The format of this record.
    revision: u32,
    /// What people call the session.
    pub(super) id: String,
    /// The device's name; none for an admin's.
    pub(super) device: Option<Name>,
    /// The device's address.
    pub(super) mac: Option<MacAddress>,
    pub(super) store: Name,
    pub(super) vdisk: Name,
    pub(super) version: VersionNumber,
    /// The content for the session's whole life; a draft's when it was opened.
    pub(super) root: Root,
    pub(super) size: DiskSize,
    pub(super) write_cache: Option<WriteCachePlan>,
    pub(super) mode: SessionMode,
    pub(super) opened_ms: u64,
}

impl SessionRecord {
    pub(super) fn of(session: &SessionInfo) -> Self {
        let (device, mac) = match &session.holder {
            Holder::Device { name, mac } => (Some(name.clone()), Some(*mac)),
            Holder::Admin => (None, None),
        };
        Self {
            revision: REVISION,
            id: session.id.clone(),
            device,
            mac,
            store: session.store.clone(),
            vdisk: session.vdisk.clone(),
            version: session.version,
            root: session.root,
            size: session.size,
            write_cache: session.write_cache.clone(),
            mode: session.mode,
            opened_ms: farm::Timestamp::from(session.opened).0,
        }
    }
}

impl SessionRecord {
    /// Whether the next run of the server can go on with it.
    pub(super) fn outlives_the_server(&self) -> bool {
        self.mode != SessionMode::Scratch
    }

    /// The vDisk, version and root, and the epoch in which it holds the draft.
    pub(crate) fn bound_to(&self) -> (&Name, VersionNumber, Root, SessionMode) {
        (&self.vdisk, self.version, self.root, self.mode)
    }

    /// The store that keeps the vDisk.
    pub(crate) fn store(&self) -> &Name {
        &self.store
    }

    /// The session, not yet connected.
    pub(super) fn info(self, now: SystemTime) -> SessionInfo {
        let holder = match (self.device, self.mac) {
            (Some(name), Some(mac)) => Holder::Device { name, mac },
            _ => Holder::Admin,
        };
        SessionInfo {
            id: self.id,
            holder,
            store: self.store,
            vdisk: self.vdisk,
            version: self.version,
            root: self.root,
            size: self.size,
            write_cache: self.write_cache,
            mode: self.mode,
            opened: UNIX_EPOCH + Duration::from_millis(self.opened_ms),
            last_seen: now,
            connections: 0,
            peer: None,
            timeline: Vec::new(),
            report: None,
        }
    }
}

/// The directory of the records.
pub(crate) struct Ledger {
    dir: PathBuf,
}

impl Ledger {
    /// Takes the directory, which is made where there is none.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Makes a record durable.
    pub(super) fn write(&self, hash: TokenHash, record: &SessionRecord) -> io::Result<()> {
        let path = self.path(hash);
        let staged = path.with_extension("new");
        let mut file = fs::File::create(&staged)?;
        file.write_all(&serde_json::to_vec(record).expect("plain fields"))?;
        file.sync_all()?;
        fs::rename(&staged, &path)?;
        fs::File::open(&self.dir)?.sync_all()
    }

    /// Takes a record out; one that comes back after a power cut expires again.
    pub(super) fn remove(&self, hash: TokenHash) {
        match fs::remove_file(self.path(hash)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a session's record stays until the next start");
            }
            _ => (),
        }
    }

    /// Every record that can be read; what cannot is told and left alone.
    pub(crate) fn load(&self) -> Vec<(TokenHash, SessionRecord)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| read(&entry.path())).collect()
    }

    fn path(&self, hash: TokenHash) -> PathBuf {
        self.dir.join(format!("{hash}.json"))
    }
}

fn read(path: &Path) -> Option<(TokenHash, SessionRecord)> {
    if path.extension().is_some_and(|end| end == "new") {
        // Half a record of a server that was killed: the session was never told to anybody.
        let _ = fs::remove_file(path);
        return None;
    }
    let hash = path.file_stem()?.to_str()?.parse().ok()?;
    let record: Result<SessionRecord, String> = fs::read(path)
        .map_err(|error| error.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    match record {
        Ok(record) if record.revision == REVISION => Some((hash, record)),
        Ok(record) => {
            tracing::warn!(path = %path.display(), revision = record.revision, "a session of another revision");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a session's record cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::Token;
    use super::*;

    /// One record as revision 1 writes it.
    const GOLDEN: &str = include_str!("../../../golden/session-1.json");

    #[test]
    fn a_record_is_read_as_it_was_written_and_by_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path().join("sessions")).unwrap();
        let record: SessionRecord = serde_json::from_str(GOLDEN).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), GOLDEN.trim_end());
        let hash = Token::random().hash();
        ledger.write(hash, &record).unwrap();
        assert_eq!(ledger.load(), [(hash, record)]);
        ledger.remove(hash);
        ledger.remove(hash);
        assert!(ledger.load().is_empty());
    }

    #[test]
    fn what_is_no_record_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path().to_owned()).unwrap();
        let hash = Token::random().hash();
        fs::write(dir.path().join(format!("{hash}.json")), "{}").unwrap();
        fs::write(dir.path().join("x.json"), GOLDEN).unwrap();
        fs::write(dir.path().join(format!("{hash}.new")), GOLDEN).unwrap();
        assert!(ledger.load().is_empty());
    }
}
