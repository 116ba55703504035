//! The farm's records: read, commit if unchanged, watch (DESIGN section 5).
//!
//! [`FarmDb`] has etcd's semantics: one revision for the whole database that every changing
//! transaction raises by one; each record knows the revision that created it and the one that last
//! changed it; a transaction commits only if all of its compares hold, atomically. All safety in a
//! farm comes from such compares, never from a lock.
//!
//! What a record means is not known here: keys are text, values are bytes. The rules are in
//! `crates/farm`. Read next: [`sqlite`] for the embedded engine, [`etcd`] for the one of several
//! servers, [`Remembered`] for the time when that is away, [`contract`] for the suite that every engine passes, [`transfer`] and
//! [`backup_file`] for carrying all records elsewhere, [`etcd_child`] for a real etcd in tests.

mod announcement;
pub mod backup_file;
pub mod contract;
mod db;
pub mod etcd;
pub mod etcd_child;
pub mod records_file;
mod remembered;
pub mod sqlite;
pub mod transfer;

pub use announcement::Announcement;
pub use db::{
    Change, ChangeKind, ChangeSet, Compare, DbError, EndpointHealth, Entry, Expect, FarmDb, Health,
    MAX_TXN_OPS, MAX_VALUE_BYTES, MemberHealth, Op, Revision, Snapshot, TxnOutcome, Watch, WatchError,
};
pub use etcd::{Etcd, EtcdOptions, EtcdTls};
pub use remembered::{Away, RESTORED, Remembered};
pub use sqlite::Sqlite;
