//! The statements: everything that runs on the database's thread.

use super::checkpoint::Checkpointer;
use super::schema;
use crate::db::{
    Change, ChangeKind, Compare, DbError, Entry, Expect, MAX_TXN_OPS, Op, Revision, Snapshot, TxnOutcome,
    WatchError,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use std::path::Path;

/// How many changes one look into the history answers.
const PAGE: i64 = 256;

/// The open file.
pub(super) struct Engine {
    db: Connection,
    revision: Revision,
    compacted: Revision,
    kept_revisions: u64,
    log: Checkpointer,
}

/// Changes, and the revision to look from next.
pub(super) type Page = (Vec<Change>, Revision);

impl Engine {
    pub(super) fn open(path: &Path, kept_revisions: u64) -> Result<Self, DbError> {
        let db = schema::open(path)?;
        let (revision, compacted) = db
            .query_row("SELECT revision, compacted FROM farm", [], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64))
            })
            .map_err(failed)?;
        let log = Checkpointer::start(path).map_err(failed)?;
        let mut engine = Self { db, revision, compacted, kept_revisions, log };
        engine.forget_announced()?;
        Ok(engine)
    }

    /// Puts a record that stands for somebody alive in this process.
    pub(super) fn announce(&mut self, key: &str, value: Vec<u8>) -> Result<Revision, DbError> {
        // First: what is announced and was never put does no harm.
        self.db.execute("INSERT OR IGNORE INTO announced VALUES (?1)", [key]).map_err(failed)?;
        match self.txn(&[], &[Op::Put { key: key.to_owned(), value }])? {
            TxnOutcome::Committed { revision } => Ok(revision),
            TxnOutcome::Conflict { .. } => unreachable!("nothing was compared"),
        }
    }

    /// Removes an announced record, unless somebody has put another one since.
    pub(super) fn withdraw(&mut self, key: &str, put_at: Revision) -> Result<(), DbError> {
        let compare = Compare { key: key.to_owned(), expect: Expect::ModRevision(put_at) };
        let removed = self.txn(&[compare], &[Op::Delete { key: key.to_owned() }])?;
        if matches!(removed, TxnOutcome::Committed { .. }) {
            self.db.execute("DELETE FROM announced WHERE key = ?1", [key]).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes what an earlier process announced and did not take back.
    fn forget_announced(&mut self) -> Result<(), DbError> {
        let keys = self.announced().map_err(failed)?;
        for keys in keys.chunks(MAX_TXN_OPS) {
            let ops: Vec<Op> = keys.iter().map(|key| Op::Delete { key: key.clone() }).collect();
            self.txn(&[], &ops)?;
        }
        self.db.execute("DELETE FROM announced", []).map_err(failed)?;
        Ok(())
    }

    fn announced(&self) -> rusqlite::Result<Vec<String>> {
        self.db.prepare("SELECT key FROM announced")?.query_map([], |row| row.get(0))?.collect()
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>, DbError> {
        get(&self.db, key).map_err(failed)
    }

    pub(super) fn range(&self, prefix: &str) -> Result<Snapshot, DbError> {
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT key, value, create_revision, mod_revision FROM record
                 WHERE key >= ?1 AND substr(key, 1, ?2) = ?1 ORDER BY key",
            )
            .map_err(failed)?;
        let rows =
            statement.query_map(params![prefix, prefix.chars().count() as i64], entry).map_err(failed)?;
        let entries = rows.collect::<rusqlite::Result<_>>().map_err(failed)?;
        Ok(Snapshot { revision: self.revision, entries })
    }

    pub(super) fn txn(&mut self, compares: &[Compare], ops: &[Op]) -> Result<TxnOutcome, DbError> {
        let (revision, oldest) = (self.revision + 1, self.revision.saturating_sub(self.kept_revisions));
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        for compare in compares {
            if !holds(get(&txn, &compare.key).map_err(failed)?.as_ref(), compare.expect) {
                return Ok(TxnOutcome::Conflict { key: compare.key.clone(), revision: self.revision });
            }
        }
        if apply(&txn, ops, revision).map_err(failed)? == 0 {
            return Ok(TxnOutcome::Committed { revision: self.revision });
        }
        txn.execute("DELETE FROM history WHERE revision <= ?1", [oldest as i64]).map_err(failed)?;
        let compacted = self.compacted.max(oldest);
        txn.execute("UPDATE farm SET revision = ?1, compacted = ?2", [revision as i64, compacted as i64])
            .map_err(failed)?;
        txn.commit().map_err(failed)?;
        self.log.committed();
        (self.revision, self.compacted) = (revision, compacted);
        Ok(TxnOutcome::Committed { revision })
    }

    /// Up to a page of the changes under `prefix` at `from` or later.
    pub(super) fn history(&self, prefix: &str, from: Revision) -> Result<Result<Page, WatchError>, DbError> {
        if from <= self.compacted && from <= self.revision {
            return Ok(Err(WatchError::Compacted { oldest: self.compacted + 1 }));
        }
        let changes = self.changes(prefix, from).map_err(failed)?;
        // A full page may end inside a revision, whose rest is read next time with its beginning
        // left out; a page holds more rows than a transaction, so whole revisions remain.
        let cut = (changes.len() as i64 == PAGE).then(|| changes.last().map(|last| last.revision)).flatten();
        Ok(Ok(match cut {
            Some(cut) => (changes.into_iter().filter(|change| change.revision < cut).collect(), cut),
            None => (changes, from.max(self.revision + 1)),
        }))
    }

    fn changes(&self, prefix: &str, from: Revision) -> rusqlite::Result<Vec<Change>> {
        let mut statement = self.db.prepare_cached(
            "SELECT revision, key, value, create_revision FROM history
             WHERE revision >= ?1 AND substr(key, 1, ?2) = ?3 ORDER BY revision, step LIMIT ?4",
        )?;
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        statement.query_map(params![from, prefix.chars().count() as i64, prefix, PAGE], change)?.collect()
    }
}

fn apply(txn: &Transaction<'_>, ops: &[Op], revision: Revision) -> rusqlite::Result<usize> {
    let mut changed = 0;
    for (step, op) in ops.iter().enumerate() {
        changed += match op {
            Op::Put { key, value } => put(txn, key, value, At { revision, step })?,
            Op::Delete { key } => delete(txn, key, At { revision, step })?,
        };
    }
    Ok(changed)
}

/// A change's place in the history.
#[derive(Clone, Copy)]
struct At {
    revision: Revision,
    step: usize,
}

fn put(txn: &Transaction<'_>, key: &str, value: &[u8], at: At) -> rusqlite::Result<usize> {
    let created: i64 = txn
        .prepare_cached(
            "INSERT INTO record VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, mod_revision = excluded.mod_revision
             RETURNING create_revision",
        )?
        .query_row(params![key, value, at.revision as i64], |row| row.get(0))?;
    txn.prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        at.revision as i64,
        at.step as i64,
        key,
        value,
        created
    ])
}

fn delete(txn: &Transaction<'_>, key: &str, at: At) -> rusqlite::Result<usize> {
    let gone = txn.prepare_cached("DELETE FROM record WHERE key = ?1")?.execute([key])?;
    if gone > 0 {
        txn.prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, NULL, 0)")?.execute(params![
            at.revision as i64,
            at.step as i64,
            key
        ])?;
    }
    Ok(gone)
}

fn holds(found: Option<&Entry>, expect: Expect) -> bool {
    match expect {
        Expect::Absent => found.is_none(),
        Expect::ModRevision(revision) => found.is_some_and(|entry| entry.mod_revision == revision),
        Expect::CreateRevision(revision) => found.is_some_and(|entry| entry.create_revision == revision),
    }
}

fn get(db: &Connection, key: &str) -> rusqlite::Result<Option<Entry>> {
    db.prepare_cached("SELECT key, value, create_revision, mod_revision FROM record WHERE key = ?1")?
        .query_row([key], entry)
        .optional()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        key: row.get(0)?,
        value: row.get(1)?,
        create_revision: row.get::<_, i64>(2)? as u64,
        mod_revision: row.get::<_, i64>(3)? as u64,
    })
}

fn change(row: &Row<'_>) -> rusqlite::Result<Change> {
    let create_revision = row.get::<_, i64>(3)? as u64;
    let put = |value| ChangeKind::Put { value, create_revision };
    Ok(Change {
        revision: row.get::<_, i64>(0)? as u64,
        key: row.get(1)?,
        kind: row.get::<_, Option<Vec<u8>>>(2)?.map_or(ChangeKind::Delete, put),
    })
}

fn failed(error: rusqlite::Error) -> DbError {
    DbError::Failed(error.to_string())
}
