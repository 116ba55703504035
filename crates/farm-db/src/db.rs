//! The trait and its vocabulary.

use crate::announcement::Announcement;
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::mpsc;

/// The number of a state of the database: 0 is empty, each changing transaction adds one.
pub type Revision = u64;

/// The most operations or compares in one transaction (etcd's default limit).
pub const MAX_TXN_OPS: usize = 128;
/// The largest value in bytes: records are small; etcd refuses requests above 1.5 MiB.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// A record and the revisions that it was made and last changed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record's name.
    pub key: String,
    /// The record's bytes.
    pub value: Vec<u8>,
    /// The revision of the transaction that created it (again, if it was deleted in between).
    pub create_revision: Revision,
    /// The revision of the transaction that last put it.
    pub mod_revision: Revision,
}

/// All records under a prefix, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The database's revision that this is the state of.
    pub revision: Revision,
    /// The records in the order of their keys.
    pub entries: Vec<Entry>,
}

/// What a transaction asks of one record before it commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The record's key.
    pub key: String,
    /// The state it must be in.
    pub expect: Expect,
}

/// The state that a record must be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist.
    Absent,
    /// It was last changed at exactly this revision.
    ModRevision(Revision),
    /// It was created at exactly this revision, whatever happened since.
    CreateRevision(Revision),
}

/// One change of a transaction; a transaction names each key once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates or replaces a record.
    Put {
        /// The record's key.
        key: String,
        /// Its new bytes.
        value: Vec<u8>,
    },
    /// Removes a record; nothing happens where it does not exist.
    Delete {
        /// The record's key.
        key: String,
    },
}

impl Op {
    /// The key that the operation changes.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// All of it is durable; this is the database's revision now.
    Committed {
        /// The revision of the changes; the present one where nothing changed.
        revision: Revision,
    },
    /// None of it happened.
    Conflict {
        /// The first record that was not in the expected state.
        key: String,
        /// The revision that was compared against.
        revision: Revision,
    },
}

/// A record that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision of the transaction.
    pub revision: Revision,
    /// The record's key.
    pub key: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It has these bytes now.
    Put {
        /// The new bytes.
        value: Vec<u8>,
        /// The revision that created it.
        create_revision: Revision,
    },
    /// It is gone.
    Delete,
}

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The changes asked for are no longer kept: read everything anew, then watch from there.
    #[error("the changes before revision {oldest} are no longer kept")]
    Compacted {
        /// The oldest revision that can still be watched from.
        oldest: Revision,
    },
    /// The engine stopped or cannot be reached: watch again from the last revision seen.
    #[error("the watch was lost: {0}")]
    Lost(String),
}

/// Why the database did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    /// Not a database of ours, damaged, or of a format that this program does not know.
    #[error("{0}")]
    Unusable(String),
    /// The engine failed or is gone; nothing is known about a transaction that got this answer.
    #[error("the farm database failed: {0}")]
    Failed(String),
    /// Nobody answers at any of the database's addresses; a transaction that got this answer was
    /// not sent.
    #[error(
        "the farm database cannot be reached: {0}\n\
         hint: sessions and boots go on meanwhile; look at the etcd members (`etcdctl endpoint health`), \
         then try again"
    )]
    Unreachable(String),
    /// The transaction breaks a rule of the interface (a key twice, a value too large).
    #[error("the transaction was not tried: {0}")]
    Invalid(String),
}

/// All changes of one transaction under the watch's prefix; at least one, of one revision.
pub type ChangeSet = Vec<Change>;

/// Transactions as they are committed, in order, whole, none left out.
///
/// A slow reader holds back only itself: the engine reads on from its history when there is room.
#[derive(Debug)]
pub struct Watch {
    transactions: mpsc::Receiver<Result<ChangeSet, WatchError>>,
}

impl Watch {
    /// Wraps the receiving end that an engine feeds; after an error nothing follows.
    pub fn new(transactions: mpsc::Receiver<Result<ChangeSet, WatchError>>) -> Self {
        Self { transactions }
    }

    /// Waits for the next transaction. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<ChangeSet, WatchError> {
        let gone = || Err(WatchError::Lost("the database was closed".to_owned()));
        self.transactions.recv().await.unwrap_or_else(gone)
    }
}

/// A database of records with etcd's semantics; one value is shared by the whole server.
#[async_trait]
pub trait FarmDb: Send + Sync {
    /// The record of a key, as of now.
    async fn get(&self, key: &str) -> Result<Option<Entry>, DbError>;

    /// All records whose keys begin with `prefix` ("" = all), as of one revision.
    async fn range(&self, prefix: &str) -> Result<Snapshot, DbError>;

    /// Commits all of `ops` if all of `compares` hold, or nothing. A committed answer means that
    /// the change is durable.
    async fn txn(&self, compares: Vec<Compare>, ops: Vec<Op>) -> Result<TxnOutcome, DbError>;

    /// Every change of records under `prefix` at `from` or later, as far back as history is kept.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, DbError>;

    /// Puts a record that stands for somebody who is alive, whatever was there before, and keeps it
    /// there: it goes when the answer is dropped or withdrawn, and at the latest `ttl` after this
    /// process has stopped (etcd), or when the database is opened again (embedded).
    ///
    /// Liveness only: nothing may be safe because of it. If the record was lost because the database
    /// was away for longer than `ttl`, it is put again when the database is back.
    async fn announce(&self, key: &str, value: Vec<u8>, ttl: Duration) -> Result<Announcement, DbError>;

    /// How the engine is, asked just now; never fails and takes a few seconds at most.
    async fn health(&self) -> Health;
}

/// How a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// "embedded" or "etcd".
    pub engine: &'static str,
    /// Its revision, where it answers.
    pub revision: Option<Revision>,
    /// Its addresses, in the order of the configuration; none where it is embedded.
    pub endpoints: Vec<EndpointHealth>,
}

/// How one address of a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// The address.
    pub endpoint: String,
    /// How long it took to answer, or to be given up.
    pub took: Duration,
    /// What answers there.
    pub state: Result<MemberHealth, String>,
}

/// What a member of the database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberHealth {
    /// The member's name in its cluster.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Whether it leads the cluster.
    pub leads: bool,
    /// The size of its file in bytes.
    pub size_bytes: u64,
    /// What it complains of: no leader, no space.
    pub troubles: Vec<String>,
}

/// Checks what every engine checks before it tries a transaction.
pub(crate) fn check_txn(compares: &[Compare], ops: &[Op]) -> Result<(), DbError> {
    let invalid = |why: String| Err(DbError::Invalid(why));
    if compares.len() > MAX_TXN_OPS || ops.len() > MAX_TXN_OPS {
        return invalid(format!("more than {MAX_TXN_OPS} compares or changes"));
    }
    let mut keys: Vec<&str> = ops.iter().map(Op::key).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return invalid(format!("{:?} is changed twice", twice[0]));
    }
    let too_large = |op: &&Op| matches!(op, Op::Put { value, .. } if value.len() > MAX_VALUE_BYTES);
    match ops.iter().find(too_large) {
        Some(op) => invalid(format!("the value of {:?} is larger than {MAX_VALUE_BYTES} bytes", op.key())),
        None => Ok(()),
    }
}
