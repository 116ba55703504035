//! A watch that goes on at another member when its own is lost.

use super::members::{MAX_ANSWER_BYTES, Member, Members};
use crate::db::ChangeSet;
use crate::db::{Change, ChangeKind, Revision, Watch, WatchError};
use etcd_client::{Event, EventType, WatchOptions, WatchResponse, WatchStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many transactions a watch reads ahead of its reader.
const WATCH_AHEAD: usize = 64;
/// How long a member may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(4);
/// How often all members are tried before the watch is given up as lost.
const ROUNDS: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);

type Feed = mpsc::Sender<Result<ChangeSet, WatchError>>;

/// What a watch reads next.
struct Cursor {
    prefix: String,
    from: Revision,
}

pub(super) fn start(members: Arc<Members>, prefix: &str, from: Revision) -> Watch {
    let (feed, changes) = mpsc::channel(WATCH_AHEAD);
    let cursor = Cursor { prefix: prefix.to_owned(), from: from.max(1) };
    tokio::spawn(follow(members, cursor, feed));
    Watch::new(changes)
}

async fn follow(members: Arc<Members>, mut cursor: Cursor, feed: Feed) {
    let mut lost = String::new();
    let mut rounds = 0;
    while rounds < ROUNDS {
        for (n, member) in members.in_turn() {
            let before = cursor.from;
            let ended = tokio::select! {
                ended = follow_one(member, &mut cursor, &feed) => ended,
                () = feed.closed() => return,
            };
            match ended {
                Ended::Member(why) => lost = format!("{}: {why}", member.endpoint),
                Ended::Watch(error) => return drop(feed.send(Err(error)).await),
                Ended::Reader => return,
            }
            if cursor.from > before {
                rounds = 0;
                members.answered((n + 1) % members.all().len());
            }
        }
        rounds += 1;
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => (),
            () = feed.closed() => return,
        }
    }
    // Whoever watched has gone if this fails; there is nobody to tell.
    let _ = feed.send(Err(WatchError::Lost(lost))).await;
}

/// Why a member tells nothing more.
enum Ended {
    /// It went; another one may go on.
    Member(String),
    /// No member has what was asked for.
    Watch(WatchError),
    /// Nobody reads any more.
    Reader,
}

async fn follow_one(member: &Member, cursor: &mut Cursor, feed: &Feed) -> Ended {
    let mut stream = match tokio::time::timeout(BEGIN, begin(member, cursor)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Ended::Member(error.to_string()),
        Err(_) => return Ended::Member("no answer".to_owned()),
    };
    loop {
        let answer = match stream.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ended::Member("it ended the watch".to_owned()),
            Err(error) => return Ended::Member(error.to_string()),
        };
        if let Some(ended) = ended(&answer) {
            return ended;
        }
        let changes: Vec<Change> = answer.events().iter().filter_map(change).collect();
        // etcd sends a transaction in one message.
        for transaction in changes.chunk_by(|a, b| a.revision == b.revision) {
            if feed.send(Ok(transaction.to_vec())).await.is_err() {
                return Ended::Reader;
            }
            cursor.from = transaction[0].revision + 1;
        }
    }
}

async fn begin(member: &Member, cursor: &Cursor) -> Result<WatchStream, etcd_client::Error> {
    let options = WatchOptions::new().with_start_revision(cursor.from as i64);
    let options = match cursor.prefix.is_empty() {
        true => options.with_all_keys(),
        false => options.with_prefix(),
    };
    let mut client = member.client.watch_client().max_decoding_message_size(MAX_ANSWER_BYTES);
    client.watch(cursor.prefix.as_str(), Some(options)).await
}

fn ended(answer: &WatchResponse) -> Option<Ended> {
    match (answer.canceled(), answer.compact_revision()) {
        (false, _) => None,
        (true, 0) => Some(Ended::Member(answer.cancel_reason().to_owned())),
        (true, oldest) => Some(Ended::Watch(WatchError::Compacted { oldest: oldest as u64 })),
    }
}

fn change(event: &Event) -> Option<Change> {
    let record = event.kv()?;
    let kind = match event.event_type() {
        EventType::Put => ChangeKind::Put {
            value: record.value().to_vec(),
            create_revision: record.create_revision() as u64,
        },
        EventType::Delete => ChangeKind::Delete,
    };
    let key = String::from_utf8_lossy(record.key()).into_owned();
    Some(Change { revision: record.mod_revision() as u64, key, kind })
}
