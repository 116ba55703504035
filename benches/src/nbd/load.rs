//! A load generator that costs little for each request, so that the server is what is measured.
//!
//! Simple replies, as the kernel's client asks for. Requests are sent together (one call for all
//! that are due) or one by one (one call each, as the kernel's client does).

use super::boot_script::{Numbers, ScriptRead};
use super::histogram::Histogram;
use anyhow::{Context, Result, anyhow, bail, ensure};
use protocol::nbd::client::{Handshake, PendingRead, Reply, ReplyForm, ReplyParser, Step, Wishes};
use protocol::nbd::{Command, RequestHeader};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{RecvFlags, recv};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BUFFER_BYTES: usize = 256 * 1024;
/// A server that says nothing for this long has failed.
const SILENCE: Duration = Duration::from_secs(20);

/// How requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// All that are due with one call.
    Together,
    /// One call for each.
    OneByOne,
}

/// What is read.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Aligned reads of this length anywhere.
    Random(u32),
    /// Reads of this length one after the other.
    Sequential(u32),
    /// A script that every connection goes through from a place of its own.
    Script(Arc<Vec<ScriptRead>>),
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After this time.
    For(Duration),
    /// When each connection has made so many requests.
    Each(u64),
}

/// A load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many connections.
    pub connections: usize,
    /// Requests in flight on each.
    pub depth: usize,
    /// How they are sent.
    pub sending: Sending,
    /// What they read.
    pub pattern: Pattern,
}

/// What a run brought.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// From each request to its reply.
    pub latencies: Histogram,
}

/// Open connections, dealt out to as many threads as are useful.
pub struct Load {
    groups: Vec<Group>,
}

struct Group {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    plan: Plan,
}

struct Connection {
    socket: TcpStream,
    size_bytes: u64,
    parser: ReplyParser,
    partial: Vec<u8>,
    slots: Vec<Slot>,
    in_flight: usize,
    sent: u64,
    numbers: Numbers,
    position: u64,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    offset: u64,
    len: u32,
    sent_ns: u64,
    failed: bool,
}

/// Opens `export` at `address`; the socket and the disk's size.
pub fn open(address: SocketAddr, export: &str) -> Result<(TcpStream, u64)> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let (mut handshake, mut input, mut output) =
        (Handshake::new(export, Wishes::default()), Vec::new(), Vec::new());
    loop {
        match handshake.receive(&input, &mut output)? {
            Step::Open { export, .. } => return Ok((socket, export.size_bytes)),
            Step::NeedMore { consumed } => drop(input.drain(..consumed)),
        }
        socket.write_all(&std::mem::take(&mut output))?;
        let mut buffer = [0; 4096];
        match socket.read(&mut buffer)? {
            0 => bail!("the server went away during the handshake"),
            len => input.extend_from_slice(&buffer[..len]),
        }
    }
}

impl Load {
    /// Connects; on two threads where there is more than one connection.
    pub fn connect(address: SocketAddr, export: &str, plan: &Plan) -> Result<Self> {
        let threads = plan.connections.min(2);
        let mut groups = (0..threads).map(|_| Group::new(plan)).collect::<Result<Vec<_>>>()?;
        for number in 0..plan.connections {
            let connection = Connection::open(address, export, plan, number)?;
            groups[number % threads].add(connection)?;
        }
        Ok(Self { groups })
    }

    /// Makes requests until the limit is reached and all replies are there.
    pub fn run(&mut self, limit: Limit) -> Result<Outcome> {
        let begun = Instant::now();
        let outcomes = std::thread::scope(|scope| {
            let run = |group: &mut Group| group.run(limit, begun);
            let threads: Vec<_> =
                self.groups.iter_mut().map(|group| scope.spawn(move || run(group))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a load thread panicked"))?)
                .collect()
        });
        let mut all = Outcome::default();
        for outcome in Result::<Vec<Outcome>>::from(outcomes)? {
            all.requests += outcome.requests;
            all.bytes += outcome.bytes;
            all.errors += outcome.errors;
            all.elapsed = all.elapsed.max(outcome.elapsed);
            all.latencies.merge(&outcome.latencies);
        }
        Ok(all)
    }
}

impl Group {
    fn new(plan: &Plan) -> Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, connections: Vec::new(), plan: plan.clone() })
    }

    fn add(&mut self, connection: Connection) -> Result<()> {
        let data = EventData::new_u64(self.connections.len() as u64);
        epoll::add(&self.epoll, &connection.socket, data, EventFlags::IN)?;
        self.connections.push(connection);
        Ok(())
    }

    fn run(&mut self, limit: Limit, begun: Instant) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut due = Vec::with_capacity(64 * 28);
        for connection in &mut self.connections {
            connection.sent = 0;
            let free: Vec<u64> = (0..connection.slots.len() as u64).collect();
            connection.send(&self.plan, &free, limit, begun, &mut due)?;
        }
        let mut events = Vec::with_capacity(256);
        while self.connections.iter().any(|connection| connection.in_flight > 0) {
            events.clear();
            if let [connection] = &mut self.connections[..] {
                connection.receive(&self.plan, limit, begun, &mut buffer, &mut due, &mut outcome)?;
                continue;
            }
            let silence = rustix::event::Timespec { tv_sec: SILENCE.as_secs() as i64, tv_nsec: 0 };
            let into = rustix::buffer::spare_capacity(&mut events);
            ensure!(epoll::wait(&self.epoll, into, Some(&silence))? > 0, "the server has gone silent");
            for event in &events {
                let connection = &mut self.connections[event.data.u64() as usize];
                connection.receive(&self.plan, limit, begun, &mut buffer, &mut due, &mut outcome)?;
            }
        }
        outcome.elapsed = begun.elapsed();
        Ok(outcome)
    }
}

impl Connection {
    fn open(address: SocketAddr, export: &str, plan: &Plan, number: usize) -> Result<Self> {
        let (socket, size_bytes) = open(address, export).with_context(|| format!("connection {number}"))?;
        let position = match &plan.pattern {
            Pattern::Script(script) => (number * script.len() / plan.connections) as u64,
            _ => number as u64 * (size_bytes / plan.connections as u64 / 65_536 * 65_536),
        };
        Ok(Self {
            socket,
            size_bytes,
            parser: ReplyParser::new(ReplyForm::Simple),
            partial: Vec::new(),
            slots: vec![Slot::default(); plan.depth],
            in_flight: 0,
            sent: 0,
            numbers: Numbers::new(number as u64 * 7919 + 1),
            position,
        })
    }

    fn next_read(&mut self, pattern: &Pattern) -> ScriptRead {
        match pattern {
            Pattern::Random(len) => {
                let blocks = self.size_bytes / u64::from(*len);
                ScriptRead { offset: self.numbers.below(blocks) * u64::from(*len), len: *len }
            }
            Pattern::Sequential(len) => {
                if self.position + u64::from(*len) > self.size_bytes {
                    self.position = 0;
                }
                let read = ScriptRead { offset: self.position, len: *len };
                self.position += u64::from(*len);
                read
            }
            Pattern::Script(script) => {
                let read = script[self.position as usize % script.len()];
                self.position += 1;
                read
            }
        }
    }

    /// Sends a request for each free slot, as long as the limit allows.
    fn send(
        &mut self,
        plan: &Plan,
        free: &[u64],
        limit: Limit,
        begun: Instant,
        due: &mut Vec<u8>,
    ) -> Result<()> {
        let now = begun.elapsed();
        due.clear();
        for slot in free {
            let over = match limit {
                Limit::For(time) => now >= time,
                Limit::Each(requests) => self.sent >= requests,
            };
            if over {
                break;
            }
            let read = self.next_read(&plan.pattern);
            let (offset, len, sent_ns) = (read.offset, read.len, now.as_nanos() as u64);
            self.slots[*slot as usize] = Slot { offset, len, sent_ns, failed: false };
            due.extend_from_slice(&RequestHeader::new(Command::Read, *slot, offset, len).encode());
            self.in_flight += 1;
            self.sent += 1;
            if plan.sending == Sending::OneByOne {
                (&self.socket).write_all(due)?;
                due.clear();
            }
        }
        if !due.is_empty() {
            (&self.socket).write_all(due)?;
        }
        Ok(())
    }

    /// Takes what has come and sends what is due then.
    fn receive(
        &mut self,
        plan: &Plan,
        limit: Limit,
        begun: Instant,
        buffer: &mut [u8],
        due: &mut Vec<u8>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        let (_, len) = recv(&self.socket, &mut buffer[kept..], RecvFlags::empty())?;
        ensure!(len > 0, "the server has closed a connection");
        let now = begun.elapsed().as_nanos() as u64;
        let (input, mut at, mut free) = (&buffer[..kept + len], 0, FreeSlots::default());
        loop {
            let slots = &self.slots;
            let pending = |cookie: u64| {
                let slot = slots.get(cookie as usize)?;
                Some(PendingRead { offset: slot.offset, len: slot.len })
            };
            let parsed = self.parser.next(&input[at..], pending)?;
            at += parsed.consumed;
            match parsed.reply {
                Some(Reply::Done { cookie }) => {
                    let slot = &self.slots[cookie as usize];
                    outcome.requests += 1;
                    outcome.errors += u64::from(slot.failed);
                    outcome.bytes += u64::from(slot.len);
                    outcome.latencies.add(now - slot.sent_ns);
                    self.in_flight -= 1;
                    free.push(cookie);
                }
                Some(Reply::Failed { cookie, .. }) => self.slots[cookie as usize].failed = true,
                Some(_) => {}
                None => break,
            }
        }
        self.partial.extend_from_slice(&input[at..]);
        self.send(plan, free.as_slice(), limit, begun, due)
    }
}

/// The slots that one read has freed, without an allocation.
struct FreeSlots {
    slots: [u64; 64],
    len: usize,
}

impl Default for FreeSlots {
    fn default() -> Self {
        Self { slots: [0; 64], len: 0 }
    }
}

impl FreeSlots {
    fn push(&mut self, slot: u64) {
        self.slots[self.len] = slot;
        self.len += 1;
    }

    fn as_slice(&self) -> &[u64] {
        &self.slots[..self.len]
    }
}
