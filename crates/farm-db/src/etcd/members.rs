//! Which member is asked, and what its failure means.
//!
//! One connection a member, so that it is known who failed: the one that answered last is asked
//! first. Three kinds of failure: nobody has seen the request (the next member is asked), nobody
//! knows (a read is asked again, a transaction is not), and an answer that no other member would
//! give differently.

use super::EtcdOptions;
use crate::db::DbError;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tonic::{Code, ConnectError, Status};

/// How long a connection may take to come about: members are near each other.
const CONNECT: Duration = Duration::from_secs(2);
/// How often a member must show that it lives, and how long it may take.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING: Duration = Duration::from_secs(3);
/// How long one member may take for a read: an election passes (etcd's default takes a second).
const READ: Duration = Duration::from_secs(4);
/// How long one member may take for a transaction; etcd itself gives up after 7 s.
const WRITE: Duration = Duration::from_secs(8);
/// How long a request is taken from member to member before its caller is told.
const PATIENCE: Duration = Duration::from_secs(8);
/// The wait before all members are asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// The largest answer: a page of a thousand records, or a transaction, of the largest kind.
pub(super) const MAX_ANSWER_BYTES: usize = 1 << 30;

/// What etcd says of history that is gone.
pub(super) const COMPACTED: &str = "required revision has been compacted";

/// The cluster's members, as they were configured.
pub(super) struct Members {
    list: Vec<Member>,
    current: AtomicUsize,
}

/// One of them.
pub(super) struct Member {
    pub(super) endpoint: String,
    pub(super) client: Client,
}

/// What a failure says about the request.
enum Failure {
    /// Nobody has seen it.
    NotSent(String),
    /// It may have been done.
    Unknown(String),
    /// It is refused by all.
    Answer(DbError),
}

impl Members {
    pub(super) async fn connect(options: &EtcdOptions) -> Result<Self, DbError> {
        let mut list = Vec::new();
        for endpoint in &options.endpoints {
            let unusable = |e| DbError::Unusable(format!("the etcd member {endpoint} cannot be used: {e}"));
            let client =
                Client::connect([endpoint], Some(connect_options(options))).await.map_err(unusable)?;
            list.push(Member { endpoint: endpoint.clone(), client });
        }
        match list.is_empty() {
            true => {
                Err(DbError::Unusable("no etcd member is configured\nhint: give farm.endpoints".to_owned()))
            }
            false => Ok(Self { list, current: AtomicUsize::new(0) }),
        }
    }

    pub(super) fn endpoints(&self) -> Vec<&str> {
        self.list.iter().map(|member| &*member.endpoint).collect()
    }

    pub(super) fn all(&self) -> &[Member] {
        &self.list
    }

    /// All members, beginning with the one that answered last.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, &Member)> {
        let first = self.current.load(Ordering::Relaxed);
        (0..self.list.len()).map(move |n| (first + n) % self.list.len()).map(|n| (n, &self.list[n]))
    }

    /// Remembers who answered.
    pub(super) fn answered(&self, member: usize) {
        self.current.store(member, Ordering::Relaxed);
    }

    /// Asks something that may be asked more than once.
    pub(super) async fn read<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, DbError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.ask(READ, ask, |why| Ok(Failure::NotSent(why))).await
    }

    /// Asks something that must not be done twice.
    pub(super) async fn write<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, DbError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.ask(WRITE, ask, |why| Err(unknown(why))).await
    }

    async fn ask<T, F>(
        &self,
        patience: Duration,
        ask: impl Fn(Client) -> F,
        on_unknown: impl Fn(String) -> Result<Failure, DbError>,
    ) -> Result<T, DbError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let begun = Instant::now();
        loop {
            let (mut reasons, mut elects) = (Vec::new(), false);
            for (n, member) in self.in_turn() {
                let failure = match tokio::time::timeout(patience, ask(member.client.clone())).await {
                    Ok(Ok(answer)) => {
                        self.answered(n);
                        return Ok(answer);
                    }
                    Ok(Err(error)) => failure(error),
                    Err(_) => Failure::Unknown("no answer".to_owned()),
                };
                let failure = match failure {
                    Failure::Unknown(why) => on_unknown(format!("{}: {why}", member.endpoint))?,
                    known => known,
                };
                match failure {
                    Failure::Answer(error) => return Err(error),
                    Failure::NotSent(why) | Failure::Unknown(why) => {
                        elects |= why.contains("etcdserver");
                        reasons.push(format!("{}: {why}", member.endpoint));
                    }
                }
            }
            // Where a member answers, an election may be going on; where none does, waiting is for
            // the caller to decide.
            if !elects || begun.elapsed() > PATIENCE {
                return Err(DbError::Unreachable(reasons.join("; ")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn connect_options(options: &EtcdOptions) -> ConnectOptions {
    let connect = ConnectOptions::new()
        .with_connect_timeout(CONNECT)
        .with_keep_alive(PING_EVERY, PING)
        .with_keep_alive_while_idle(true)
        .with_require_leader(true);
    let Some(tls) = &options.tls else { return connect };
    let certificates = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
    connect.with_tls(match &tls.identity_pem {
        Some((certificate, key)) => certificates.identity(Identity::from_pem(certificate, key)),
        None => certificates,
    })
}

fn unknown(why: String) -> DbError {
    DbError::Failed(format!(
        "it is not known whether the change was made ({why})\nhint: look whether it was, then try again"
    ))
}

fn failure(error: etcd_client::Error) -> Failure {
    match error {
        etcd_client::Error::GRpcStatus(status) => failure_of(&status),
        other => Failure::Unknown(other.to_string()),
    }
}

fn failure_of(status: &Status) -> Failure {
    let why = status.message().to_owned();
    match status.code() {
        _ if was_not_connected(status) => Failure::NotSent(cause(status)),
        Code::Unavailable if why.contains("no leader") => Failure::NotSent(why),
        Code::InvalidArgument => Failure::Answer(DbError::Invalid(why)),
        Code::OutOfRange | Code::FailedPrecondition | Code::NotFound => Failure::Answer(DbError::Failed(why)),
        Code::PermissionDenied | Code::Unauthenticated => Failure::Answer(DbError::Failed(why)),
        Code::ResourceExhausted => Failure::Answer(DbError::Failed(format!(
            "{why}\nhint: compact and defragment etcd, or give it a larger --quota-backend-bytes, then disarm the alarm"
        ))),
        _ => Failure::Unknown(why),
    }
}

fn chain<'a>(status: &'a Status) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    let first: Option<&'a (dyn std::error::Error + 'static)> = std::error::Error::source(status);
    std::iter::successors(first, |error| error.source())
}

fn was_not_connected(status: &Status) -> bool {
    chain(status).any(|error| error.is::<ConnectError>())
}

/// The innermost reason: "Connection refused" says more than "transport error".
fn cause(status: &Status) -> String {
    chain(status).last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}
