//! A directory of disks and a blocking client, for the tests of this crate.

use disk::BlockIo;
use headwater_streaming::{
    Export, ExportDirectory, ExportRefusal, NbdOptions, NbdServer, Peer, SessionTotals,
};
use protocol::nbd::client::{
    Handshake, OpenExport, PendingRead, Reply, ReplyForm, ReplyParser, Step, Wishes,
};
use protocol::nbd::{Command, ErrorNumber, RequestHeader};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Long enough for the slowest machine, short enough to end a hung test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Disks by name, and what has happened to them.
#[derive(Default)]
pub(crate) struct Disks {
    disks: BTreeMap<String, Arc<dyn BlockIo>>,
    pub(crate) max_connections: Option<usize>,
    pub(crate) refused: Mutex<Vec<String>>,
    pub(crate) closed: Mutex<Vec<(String, SessionTotals)>>,
}

impl Disks {
    pub(crate) fn one(name: &str, disk: impl BlockIo + 'static) -> Self {
        Self::default().and(name, disk)
    }

    pub(crate) fn and(mut self, name: &str, disk: impl BlockIo + 'static) -> Self {
        self.disks.insert(name.to_owned(), Arc::new(disk));
        self
    }
}

impl ExportDirectory for Disks {
    fn open(&self, name: &str, _: Peer) -> Result<Export, ExportRefusal> {
        let Some(disk) = self.disks.get(name) else {
            self.refused.lock().unwrap().push(name.to_owned());
            return Err(ExportRefusal::Unknown);
        };
        let max_connections = self.max_connections.unwrap_or(usize::MAX);
        Ok(Export { disk: Arc::clone(disk), description: format!("disk {name}"), max_connections })
    }

    fn closed(&self, name: &str, _: Peer, totals: &SessionTotals) {
        self.closed.lock().unwrap().push((name.to_owned(), *totals));
    }
}

pub(crate) fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub(crate) fn start(disks: &Arc<Disks>) -> (NbdServer, SocketAddr) {
    start_with(disks, |_| {})
}

pub(crate) fn start_with(
    disks: &Arc<Disks>,
    adjust: impl FnOnce(&mut NbdOptions),
) -> (NbdServer, SocketAddr) {
    let mut options = NbdOptions::new(vec![listener().into()]);
    adjust(&mut options);
    let directory: Arc<dyn ExportDirectory> = disks.clone();
    let server = NbdServer::start(options, directory).unwrap();
    let address = server.local_addrs()[0];
    (server, address)
}

/// Waits until `condition` holds; panics when it does not for too long.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) const STRUCTURED: Wishes = Wishes { structured_replies: true, block_status: true };
pub(crate) const SIMPLE: Wishes = Wishes { structured_replies: false, block_status: false };

/// A client with any number of requests in flight.
pub(crate) struct Client<S> {
    pub(crate) socket: S,
    pub(crate) export: OpenExport,
    parser: ReplyParser,
    input: Vec<u8>,
    pending: HashMap<u64, (PendingRead, Answer)>,
    next_cookie: u64,
}

/// What a request brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) error: Option<ErrorNumber>,
    pub(crate) holes: u32,
    pub(crate) extents: Vec<(u32, u32)>,
}

pub(crate) fn connect(address: SocketAddr, name: &str, wishes: Wishes) -> io::Result<Client<TcpStream>> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Client::open(socket, name, wishes)
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn open(mut socket: S, name: &str, wishes: Wishes) -> io::Result<Self> {
        let (mut handshake, mut input, mut output) = (Handshake::new(name, wishes), Vec::new(), Vec::new());
        let export = loop {
            match handshake.receive(&input, &mut output).map_err(io::Error::other)? {
                Step::Open { consumed, export } => {
                    input.drain(..consumed);
                    break export;
                }
                Step::NeedMore { consumed } => drop(input.drain(..consumed)),
            }
            socket.write_all(&std::mem::take(&mut output))?;
            read_some(&mut socket, &mut input)?;
        };
        let form = if export.structured_replies { ReplyForm::Structured } else { ReplyForm::Simple };
        let parser = ReplyParser::new(form);
        Ok(Self { socket, export, parser, input, pending: HashMap::new(), next_cookie: 1 })
    }

    pub(crate) fn send(&mut self, header: RequestHeader, payload: &[u8]) -> io::Result<u64> {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let reads = header.command == Command::Read as u16;
        let pending = PendingRead { offset: header.offset, len: if reads { header.len as u32 } else { 0 } };
        let bytes = if reads { vec![0xee; header.len as usize] } else { Vec::new() };
        self.pending.insert(cookie, (pending, Answer { bytes, ..Answer::default() }));
        self.socket.write_all(&RequestHeader { cookie, ..header }.encode())?;
        self.socket.write_all(payload)?;
        Ok(cookie)
    }

    /// Waits for the next request that is over.
    pub(crate) fn next_answer(&mut self) -> io::Result<(u64, Answer)> {
        loop {
            let pending = |cookie: u64| self.pending.get(&cookie).map(|(pending, _)| *pending);
            let parsed = self.parser.next(&self.input, pending).map_err(io::Error::other)?;
            let consumed = parsed.consumed;
            match parsed.reply {
                None => {
                    self.input.drain(..consumed);
                    read_some(&mut self.socket, &mut self.input)?;
                    continue;
                }
                Some(Reply::Done { cookie }) => {
                    self.input.drain(..consumed);
                    let (_, answer) = self.pending.remove(&cookie).unwrap();
                    return Ok((cookie, answer));
                }
                Some(reply) => note(&mut self.pending, reply),
            }
            self.input.drain(..consumed);
        }
    }

    pub(crate) fn call(&mut self, header: RequestHeader, payload: &[u8]) -> Answer {
        let cookie = self.send(header, payload).unwrap();
        let (answered, answer) = self.next_answer().unwrap();
        assert_eq!(answered, cookie);
        answer
    }

    pub(crate) fn command(&mut self, command: Command, offset: u64, len: u32) -> Answer {
        self.call(RequestHeader::new(command, 0, offset, len), &[])
    }

    pub(crate) fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, ErrorNumber> {
        let answer = self.command(Command::Read, offset, len);
        answer.error.map_or(Ok(answer.bytes), Err)
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Option<ErrorNumber> {
        self.call(RequestHeader::new(Command::Write, 0, offset, bytes.len() as u32), bytes).error
    }
}

fn note(pending: &mut HashMap<u64, (PendingRead, Answer)>, reply: Reply<'_>) {
    match reply {
        Reply::Data { cookie, offset, bytes } => {
            let (request, answer) = pending.get_mut(&cookie).unwrap();
            let at = (offset - request.offset) as usize;
            answer.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Reply::Zeroes { cookie, offset, len } => {
            let (request, answer) = pending.get_mut(&cookie).unwrap();
            let at = (offset - request.offset) as usize;
            answer.bytes[at..at + len as usize].fill(0);
            answer.holes += 1;
        }
        Reply::Status { cookie, extents, .. } => {
            let extents = extents.iter().map(|e| (e.len, e.flags)).collect();
            pending.get_mut(&cookie).unwrap().1.extents = extents;
        }
        Reply::Failed { cookie, error } => pending.get_mut(&cookie).unwrap().1.error = Some(error),
        Reply::Done { .. } => {}
    }
}

fn read_some(socket: &mut impl Read, input: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 65536];
    match socket.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len => {
            input.extend_from_slice(&buffer[..len]);
            Ok(())
        }
    }
}

/// Bytes that differ everywhere.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
