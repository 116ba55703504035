//! The database as a server has it that may have been taken out of the farm.
//!
//! Such a server still reaches the database: its addresses and certificates are its own. From the
//! moment it hears of its removal it changes nothing any more. What others must do so that it cannot
//! even if it wanted to (new certificates for etcd) is in docs/operations/servers.md.

use async_trait::async_trait;
use farm_db::{
    Announcement, Compare, DbError, Entry, FarmDb, Health, Op, Revision, Snapshot, TxnOutcome, Watch,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Refuses changes once somebody has said why; reads go on.
pub(super) struct Fenced {
    inner: Arc<dyn FarmDb>,
    why: OnceLock<String>,
}

impl Fenced {
    /// Lets everything through.
    pub(super) fn new(inner: Arc<dyn FarmDb>) -> Self {
        Self { inner, why: OnceLock::new() }
    }

    /// From now on every change is refused with these words; whether that is news.
    pub(super) fn fence(&self, why: &str) -> bool {
        self.why.set(why.to_owned()).is_ok()
    }

    fn check(&self) -> Result<(), DbError> {
        self.why.get().map_or(Ok(()), |why| Err(DbError::Unusable(why.clone())))
    }
}

#[async_trait]
impl FarmDb for Fenced {
    async fn get(&self, key: &str) -> Result<Option<Entry>, DbError> {
        self.inner.get(key).await
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, DbError> {
        self.inner.range(prefix).await
    }

    async fn txn(&self, compares: Vec<Compare>, ops: Vec<Op>) -> Result<TxnOutcome, DbError> {
        // What deletes without the database's word asks with an empty one.
        self.check()?;
        self.inner.txn(compares, ops).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, DbError> {
        self.inner.watch(prefix, from).await
    }

    async fn announce(&self, key: &str, value: Vec<u8>, ttl: Duration) -> Result<Announcement, DbError> {
        self.check()?;
        self.inner.announce(key, value, ttl).await
    }

    async fn health(&self) -> Health {
        self.inner.health().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farm_db::Sqlite;

    #[tokio::test]
    async fn a_server_that_was_taken_out_reads_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = Arc::new(Sqlite::open(&dir.path().join("farm.db")).unwrap());
        let db = Fenced::new(sqlite);
        let put = || vec![Op::Put { key: "/a".to_owned(), value: b"1".to_vec() }];
        db.txn(vec![], put()).await.unwrap();
        assert!(db.fence("removed\nhint: join again") && !db.fence("again"));
        let refused = db.txn(vec![], put()).await.unwrap_err();
        assert_eq!(refused, DbError::Unusable("removed\nhint: join again".to_owned()));
        assert!(db.announce("/live/a", vec![], Duration::from_secs(9)).await.is_err());
        assert_eq!(db.get("/a").await.unwrap().unwrap().value, b"1");
    }
}
