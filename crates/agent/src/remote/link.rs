//! The link's thread: a connection to a server, and the next one when it ends.

use super::call::Finished;
use super::connect::ConnectError;
use super::connect::{Connection, connect, is_timeout};
use super::flight::{BadServer, Refused};
use super::{Patience, Shared};
use crate::console::{self, RateLimit};
use protocol::nbd::client::{BadReply, ReplyParser};
use protocol::plan::StreamServer;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Room for replies between two reads of the socket: the answer to a deep queue of 4 KiB reads.
const BUFFER_BYTES: usize = 256 * 1024;
/// How often a thread that waits for bytes looks whether it should still wait.
const TICK: Duration = Duration::from_millis(250);
/// The first pause after a round over all servers that all failed; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A connection that lived this long was a good one: the next is tried without a pause.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkEnd {
    #[error("it closed the connection")]
    Closed,
    #[error("no answer for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    BadReply(#[from] BadReply),
    #[error("{0}")]
    BadServer(#[from] BadServer),
}

/// Keeps a connection until the disk is closed.
pub(super) fn run(shared: &Shared) {
    let mut pauses = Pauses::new(shared.target.patience);
    let mut quiet = RateLimit::new(Duration::from_secs(2));
    let mut unknown_since = None;
    for server in shared.target.servers.iter().cycle() {
        if shared.is_closed() {
            break;
        }
        let started = Instant::now();
        let trouble = match connect(&shared.target, server) {
            Ok(connection) => {
                unknown_since = None;
                console::info(format!("streaming from {} ({})", server.name, server.nbd));
                serve(shared, connection, server).to_string()
            }
            Err(error) => {
                if is_gone(shared, &error, &mut unknown_since) {
                    give_up(shared, server, &error);
                    break;
                }
                error.to_string()
            }
        };
        if shared.is_closed() {
            break;
        }
        tell(&mut quiet, server, &trouble);
        pauses.after(started.elapsed(), shared);
    }
    shared.flight().close().into_iter().for_each(Finished::tell);
}

/// Whether a draft's session is over: a server says so, and goes on saying so.
///
/// Not at once, because a server that has just started may not know its sessions yet.
fn is_gone(shared: &Shared, error: &ConnectError, unknown_since: &mut Option<Instant>) -> bool {
    if !error.is_refusal() || !shared.flight().is_draft() {
        return false;
    }
    unknown_since.get_or_insert_with(Instant::now).elapsed() >= shared.target.patience.unknown
}

fn give_up(shared: &Shared, server: &StreamServer, error: &ConnectError) {
    let reason = format!("server {} ended its session: {error}", server.name);
    let mut finished = Vec::new();
    shared.flight().give_up(Refused { reason, reads_too: true }, &mut finished);
    finished.into_iter().for_each(Finished::tell);
    shared.changed.notify_all();
}

fn tell(quiet: &mut RateLimit, server: &StreamServer, trouble: &str) {
    if let Some(held_back) = quiet.admit(Instant::now()) {
        let more = if held_back > 0 {
            format!(" ({held_back} messages like this held back)")
        } else {
            String::new()
        };
        console::problem(format!(
            "server {} ({}): {trouble}{more}; trying the next",
            server.name, server.nbd
        ));
    }
}

/// Uses a connection until it ends.
fn serve(shared: &Shared, connection: Connection, server: &StreamServer) -> LinkEnd {
    let outcome = match connection.stream.try_clone() {
        Ok(sender) => {
            let again = shared.flight().use_connection(Arc::new(sender), server.name.clone());
            shared.retries.fetch_add(again, Ordering::Relaxed);
            shared.changed.notify_all();
            shared.to_send.notify_one();
            receive(shared, connection)
        }
        Err(error) => error.into(),
    };
    shared.flight().lose_connection();
    shared.changed.notify_all();
    outcome
}

fn receive(shared: &Shared, mut connection: Connection) -> LinkEnd {
    if let Err(error) = connection.stream.set_read_timeout(Some(TICK)) {
        return error.into();
    }
    let mut parser = ReplyParser::new(connection.form);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = connection.early.len();
    buffer[..filled].copy_from_slice(&connection.early);
    let mut idle_since = Instant::now();
    loop {
        match parse(shared, &mut parser, &buffer[..filled]) {
            Ok(consumed) => {
                buffer.copy_within(consumed..filled, 0);
                filled -= consumed;
            }
            Err(end) => return end,
        }
        match connection.stream.read(&mut buffer[filled..]) {
            Ok(0) => return LinkEnd::Closed,
            Ok(len) => {
                filled += len;
                idle_since = Instant::now();
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if !is_timeout(&error) => return error.into(),
            Err(_) if shared.flight().waiting() == 0 => idle_since = Instant::now(),
            Err(_) if idle_since.elapsed() >= shared.target.patience.stall => {
                return LinkEnd::Stalled(shared.target.patience.stall);
            }
            Err(_) => {}
        }
    }
}

/// Takes all that `input` says; answers how much of it is done with.
fn parse(shared: &Shared, parser: &mut ReplyParser, input: &[u8]) -> Result<usize, LinkEnd> {
    let mut finished = Vec::new();
    let outcome = parse_into(shared, parser, input, &mut finished);
    shared.to_send.notify_one(); // an acknowledged change may have held back others
    finished.into_iter().for_each(Finished::tell);
    outcome
}

fn parse_into(
    shared: &Shared,
    parser: &mut ReplyParser,
    input: &[u8],
    finished: &mut Vec<Finished>,
) -> Result<usize, LinkEnd> {
    let mut at = 0;
    let mut flight = shared.flight();
    loop {
        let parsed = parser.next(&input[at..], |cookie| flight.pending(cookie))?;
        at += parsed.consumed;
        match parsed.reply {
            Some(reply) => flight.take(reply, finished)?,
            None if parsed.consumed == 0 => break,
            None => {}
        }
    }
    shared.read_bytes.fetch_add(at as u64, Ordering::Relaxed);
    Ok(at)
}

/// Jittered, doubling pauses once every server has failed in turn.
struct Pauses {
    longest: Duration,
    failed_in_turn: usize,
    next: Duration,
}

impl Pauses {
    fn new(patience: Patience) -> Self {
        Self { longest: patience.longest_pause, failed_in_turn: 0, next: FIRST_PAUSE }
    }

    fn after(&mut self, lived: Duration, shared: &Shared) {
        if lived >= GOOD_AFTER {
            (self.failed_in_turn, self.next) = (0, FIRST_PAUSE);
        }
        self.failed_in_turn += 1;
        if self.failed_in_turn < shared.target.servers.len() {
            return;
        }
        let pause = jittered(self.next);
        (self.failed_in_turn, self.next) = (0, (self.next * 2).min(self.longest));
        let flight = shared.flight();
        let woken = shared.changed.wait_timeout_while(flight, pause, |_| !shared.is_closed());
        drop(woken.expect("no holder of the lock panics"));
    }
}

/// Between half and all of `pause`, so that devices that lost one server do not come as one.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0) % 1024;
    pause / 2 + (pause / 2) * random as u32 / 1024
}
