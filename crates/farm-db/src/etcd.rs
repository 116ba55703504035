//! The engine of a farm of several servers: an etcd cluster of the farm's own.
//!
//! Every revision, compare and transaction is etcd's; this engine adds which member to ask and what
//! a failure means. Reads are linearizable. A transaction is sent again only while it is certain
//! that nobody has seen it; where its answer was lost, the caller is told that nothing is known.
//! Liveness is an etcd lease. Nothing else may be stored in the same cluster: this server takes
//! every revision for one of the farm's.
//!
//! Read next: `members.rs` for failover and the meaning of errors, `watching.rs` for watches,
//! `lease.rs` for liveness.

mod health;
mod lease;
mod members;
mod watching;

use crate::announcement::Announcement;
use crate::db::{
    Compare, DbError, Entry, Expect, FarmDb, Health, Op, Revision, Snapshot, TxnOutcome, Watch, check_txn,
};
use async_trait::async_trait;
use etcd_client::{CompareOp, GetOptions, KeyValue, ResponseHeader, Txn, TxnOp, TxnOpResponse};
use members::Members;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How many records are read at once: a page of the usual ones is some hundred KiB.
const PAGE: i64 = 1000;
/// How often a read of many pages begins anew because its revision was compacted meanwhile.
const RANGE_TRIES: usize = 5;
/// How many revisions of history are kept for watches, as in the embedded engine.
const KEPT_REVISIONS: i64 = 10_000;
/// How often history is cut to that.
const COMPACT_EVERY: Duration = Duration::from_secs(600);

/// Where the cluster is and how it is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdOptions {
    /// `http://HOST:PORT` or `https://HOST:PORT` of each member, the nearest first.
    pub endpoints: Vec<String>,
    /// The certificates, where the endpoints are https.
    pub tls: Option<EtcdTls>,
}

/// The certificates of a connection; all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdTls {
    /// The authority that signed the members' certificates.
    pub ca_pem: Vec<u8>,
    /// This server's certificate and key, where the members ask for one.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
}

/// The database of a farm of several servers; cheap to clone.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<Members>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("endpoints", &self.members.endpoints()).finish()
    }
}

impl Etcd {
    /// Prepares the connections; nobody has to answer yet.
    ///
    /// Errors: an address or a certificate that cannot be used.
    pub async fn connect(options: &EtcdOptions) -> Result<Self, DbError> {
        let members = Arc::new(Members::connect(options).await?);
        tokio::spawn(compact(Arc::downgrade(&members)));
        Ok(Self { members })
    }

    async fn page(&self, from: Vec<u8>, prefix: &str, at: i64) -> Result<Page, DbError> {
        let options = GetOptions::new().with_range(end_of(prefix)).with_limit(PAGE).with_revision(at);
        let read = self.members.read(|client| {
            let (from, options) = (from.clone(), options.clone());
            let mut client = client.kv_client().max_decoding_message_size(members::MAX_ANSWER_BYTES);
            async move { client.get(from, Some(options)).await }
        });
        let mut answer = read.await?;
        let revision = revision_of(answer.header())?;
        let entries = answer.take_kvs().into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Page { revision, entries, more: answer.more() })
    }

    async fn pages(&self, prefix: &str) -> Result<Snapshot, DbError> {
        let first = if prefix.is_empty() { vec![0] } else { prefix.as_bytes().to_vec() };
        let mut page = self.page(first, prefix, 0).await?;
        let mut snapshot = Snapshot { revision: page.revision, entries: Vec::new() };
        loop {
            snapshot.entries.append(&mut page.entries);
            let Some(last) = snapshot.entries.last().filter(|_| page.more) else { return Ok(snapshot) };
            let after = [last.key.as_bytes(), &[0]].concat();
            page = self.page(after, prefix, snapshot.revision as i64).await?;
        }
    }
}

/// What one read of many brings.
struct Page {
    revision: Revision,
    entries: Vec<Entry>,
    more: bool,
}

#[async_trait]
impl FarmDb for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>, DbError> {
        let read = self.members.read(|mut client| {
            let key = key.to_owned();
            async move { client.get(key, None).await }
        });
        read.await?.take_kvs().pop().map(entry).transpose()
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, DbError> {
        let mut tries = 1;
        loop {
            match self.pages(prefix).await {
                Err(DbError::Failed(why)) if why.contains(members::COMPACTED) && tries < RANGE_TRIES => {
                    tries += 1;
                }
                read => return read,
            }
        }
    }

    async fn txn(&self, compares: Vec<Compare>, ops: Vec<Op>) -> Result<TxnOutcome, DbError> {
        check_txn(&compares, &ops)?;
        let look = Some(GetOptions::new().with_keys_only());
        let seen: Vec<_> = compares.iter().map(|compare| TxnOp::get(&*compare.key, look.clone())).collect();
        let txn = Txn::new()
            .when(compares.iter().map(condition).collect::<Vec<_>>())
            .and_then(ops.into_iter().map(change).collect::<Vec<_>>())
            .or_else(seen);
        let sent = self.members.write(|mut client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        });
        let answer = sent.await?;
        let revision = revision_of(answer.header())?;
        if answer.succeeded() {
            return Ok(TxnOutcome::Committed { revision });
        }
        let found = answer.op_responses().into_iter().map(found);
        let broken = compares.into_iter().zip(found).find(|(compare, found)| !holds(compare.expect, *found));
        match broken {
            Some((compare, _)) => Ok(TxnOutcome::Conflict { key: compare.key, revision }),
            None => {
                Err(DbError::Failed("etcd refused a transaction all of whose conditions hold".to_owned()))
            }
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, DbError> {
        Ok(watching::start(Arc::clone(&self.members), prefix, from))
    }

    async fn announce(&self, key: &str, value: Vec<u8>, ttl: Duration) -> Result<Announcement, DbError> {
        check_txn(&[], &[Op::Put { key: key.to_owned(), value: value.clone() }])?;
        lease::announce(Arc::clone(&self.members), lease::Alive { key: key.to_owned(), value, ttl }).await
    }

    async fn health(&self) -> Health {
        health::ask(&self.members).await
    }
}

/// The first key behind all that begin with `prefix`; for "" etcd's sign for all keys.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // UTF-8 has no byte 0xff, so there is always a next one.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end
}

fn revision_of(header: Option<&ResponseHeader>) -> Result<Revision, DbError> {
    let missing = || DbError::Failed("etcd answered without a revision".to_owned());
    Ok(header.ok_or_else(missing)?.revision() as u64)
}

fn entry(record: KeyValue) -> Result<Entry, DbError> {
    let (create, last) = (record.create_revision() as u64, record.mod_revision() as u64);
    let (key, value) = record.into_key_value();
    let foreign =
        |_| DbError::Unusable("etcd has a key that is not text: use a cluster of the farm's own".to_owned());
    Ok(Entry {
        key: String::from_utf8(key).map_err(foreign)?,
        value,
        create_revision: create,
        mod_revision: last,
    })
}

fn condition(compare: &Compare) -> etcd_client::Compare {
    use etcd_client::Compare as Condition;
    let key = compare.key.clone();
    match compare.expect {
        Expect::Absent => Condition::create_revision(key, CompareOp::Equal, 0),
        // To etcd a record that does not exist has the revision 0; no record of ours was changed then.
        Expect::ModRevision(0) | Expect::CreateRevision(0) => Condition::version(key, CompareOp::Less, 0),
        Expect::ModRevision(revision) => Condition::mod_revision(key, CompareOp::Equal, revision as i64),
        Expect::CreateRevision(revision) => {
            Condition::create_revision(key, CompareOp::Equal, revision as i64)
        }
    }
}

fn change(op: Op) -> TxnOp {
    match op {
        Op::Put { key, value } => TxnOp::put(key, value, None),
        Op::Delete { key } => TxnOp::delete(key, None),
    }
}

/// When the record was created and last changed that a failed transaction has looked at.
fn found(answer: TxnOpResponse) -> Option<(Revision, Revision)> {
    let TxnOpResponse::Get(answer) = answer else { return None };
    let record = answer.kvs().first()?;
    Some((record.create_revision() as u64, record.mod_revision() as u64))
}

fn holds(expect: Expect, found: Option<(Revision, Revision)>) -> bool {
    match (expect, found) {
        (Expect::Absent, found) => found.is_none(),
        (Expect::ModRevision(expected), Some((_, last))) => expected == last,
        (Expect::CreateRevision(expected), Some((create, _))) => expected == create,
        (_, None) => false,
    }
}

/// Cuts the history, again and again, as long as the database is in use. Every server does it: what
/// another one has cut already is no error.
async fn compact(members: Weak<Members>) {
    let mut turn = tokio::time::interval(COMPACT_EVERY);
    turn.tick().await;
    loop {
        turn.tick().await;
        let Some(members) = members.upgrade() else { return };
        let present = members.read(|mut client| async move { client.get("/", None).await }).await;
        let Some(revision) = present.ok().and_then(|answer| Some(answer.header()?.revision())) else {
            continue;
        };
        let oldest = revision - KEPT_REVISIONS;
        if oldest > 0 {
            let _ = members.read(|mut client| async move { client.compact(oldest, None).await }).await;
        }
    }
}

#[cfg(test)]
mod tests;
