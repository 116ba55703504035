//! A small NBD server for tests that misbehaves as it is told.

use model::{DiskSize, Name};
use protocol::nbd::ErrorNumber;
use protocol::nbd::server::{
    ChunkRange, Event, ExportShape, Handshake, Incoming, OpenRefusal, Order, OrderKind, ReplyForm, ReplyTo,
    RequestParser, Session, TlsOffer,
};
use protocol::plan::StreamServer;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// What the server does with its next reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers them.
    Honest,
    /// Sends half of an answer and closes; honest again from the next connection on.
    CutOff,
    /// Answers with an error.
    Failing,
    /// Takes them and says nothing; honest again from the next connection on.
    Silent,
    /// Refuses every change for good.
    Fenced,
    /// Answers every change as a disk does that is closed, for a while or for good.
    Closed,
    /// Has no room for changes.
    Full,
    /// Knows no export any more.
    Gone,
}

struct State {
    bytes: Vec<u8>,
    /// What a power cut leaves of `bytes`; none where the disk is read-only.
    durable: Option<Vec<u8>>,
    /// Changes and flushes that were executed.
    executed: u64,
    flushes: u64,
    told_size: u64,
    manner: Manner,
    connections: u64,
    /// Which connection is served. The others do nothing more: a server without power answers
    /// nobody, and one that goes on executes nothing of a connection that another has followed.
    serving: u64,
    open: Option<TcpStream>,
}

/// An open export to one client.
struct Connection {
    stream: TcpStream,
    form: ReplyForm,
    number: u64,
}

/// A server on a port of its own; its threads end with the test's process.
#[derive(Clone)]
pub(crate) struct TestServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl TestServer {
    /// Serves these bytes, honestly at first.
    pub(crate) fn start(bytes: Vec<u8>) -> Self {
        Self::start_with(bytes, None)
    }

    /// Serves these bytes as a draft, which can be written to.
    pub(crate) fn start_draft(bytes: Vec<u8>) -> Self {
        Self::start_with(bytes.clone(), Some(bytes))
    }

    fn start_with(bytes: Vec<u8>, durable: Option<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told_size = bytes.len() as u64;
        let (manner, executed, flushes, connections) = (Manner::Honest, 0, 0, 0);
        let (serving, open) = (0, None);
        let state =
            State { bytes, durable, executed, flushes, told_size, manner, connections, serving, open };
        let server = Self { address, state: Arc::new(Mutex::new(state)) };
        let of_thread = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = of_thread.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    /// How a plan names it.
    pub(crate) fn in_plan(&self, name: &str) -> StreamServer {
        StreamServer { name: Name::new(name).unwrap(), nbd: self.address.to_string() }
    }

    /// The disk's size.
    pub(crate) fn size(&self) -> DiskSize {
        DiskSize::new(self.with(|state| state.bytes.len() as u64)).unwrap()
    }

    /// Changes what it does from now on.
    pub(crate) fn behave(&self, manner: Manner) {
        self.with(|state| state.manner = manner);
    }

    /// Waits until a read has met its manner and the server is honest again.
    pub(crate) fn wait_until_honest(&self) {
        while self.with(|state| state.manner) != Manner::Honest {
            std::thread::yield_now();
        }
    }

    /// Tells clients a wrong size from now on.
    pub(crate) fn tell_size(&self, size: u64) {
        self.with(|state| state.told_size = size);
    }

    /// Closes the connection that was opened last.
    pub(crate) fn hang_up(&self) {
        if let Some(stream) = self.with(|state| state.open.take()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Forgets what was not flushed, as a loss of power does, and closes the connection.
    pub(crate) fn cut_power(&self) {
        self.with(|state| {
            state.bytes = state.durable.clone().expect("a draft");
            state.serving += 1;
        });
        self.hang_up();
    }

    /// What the disk holds now.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.with(|state| state.bytes.clone())
    }

    /// How many changes were executed, repeated ones too, and how many flushes.
    pub(crate) fn executed(&self) -> (u64, u64) {
        self.with(|state| (state.executed, state.flushes))
    }

    /// How many connections got an open export.
    pub(crate) fn connections(&self) -> u64 {
        self.with(|state| state.connections)
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Like [`Self::with`], while this connection is the one that is served.
    fn of_connection<T>(&self, number: u64, work: impl FnOnce(&mut State) -> T) -> std::io::Result<T> {
        self.with(|state| (state.serving == number).then(|| work(state)))
            .ok_or_else(|| std::io::ErrorKind::ConnectionAborted.into())
    }

    /// Errors of the socket are the client's business.
    fn serve(&self, mut stream: TcpStream) {
        if let Some((session, input)) = self.shake_hands(&mut stream) {
            let number = self.with(|state| {
                state.connections += 1;
                state.serving += 1;
                state.open = stream.try_clone().ok();
                state.serving
            });
            let _ = self.answer_all(Connection { stream, form: session.form, number }, session, input);
        }
    }

    fn shake_hands(&self, stream: &mut TcpStream) -> Option<(Session, Vec<u8>)> {
        let (mut input, mut output) = (Vec::new(), Vec::new());
        let mut handshake = Handshake::new(TlsOffer::Unavailable, &mut output);
        loop {
            let step = handshake.receive(&input, &mut output);
            input.drain(..step.consumed);
            let session = match &step.event {
                Event::OpenExport { .. } if self.with(|state| state.manner) == Manner::Gone => {
                    handshake.refused(OpenRefusal::Unknown, &mut output);
                    None
                }
                Event::OpenExport { .. } => {
                    let (size_bytes, read_only) =
                        self.with(|state| (state.told_size, state.durable.is_none()));
                    let shape = ExportShape { size_bytes, read_only, description: String::new() };
                    handshake.opened(&shape, &mut output)
                }
                Event::NeedMore => None,
                Event::Close | Event::StartTls => return None,
            };
            stream.write_all(&std::mem::take(&mut output)).ok()?;
            match session {
                Some(session) => return Some((session, input)),
                None if step.event == Event::NeedMore => read_more(stream, &mut input).ok()?,
                None => {}
            }
        }
    }

    fn answer_all(
        &self,
        mut connection: Connection,
        session: Session,
        mut input: Vec<u8>,
    ) -> std::io::Result<()> {
        let mut parser = RequestParser::new(session);
        let mut writing: Option<(Order, Vec<u8>)> = None;
        loop {
            let parsed = parser.next(&input).map_err(std::io::Error::other)?;
            let (consumed, idle) = (parsed.consumed, parsed.incoming.is_none());
            match parsed.incoming {
                Some(Incoming::Order(order)) if matches!(order.kind, OrderKind::Write { .. }) => {
                    writing = Some((order, Vec::new()));
                }
                Some(Incoming::Order(order)) if matches!(order.kind, OrderKind::Read { .. }) => {
                    self.answer(&mut connection, &order)?;
                }
                Some(Incoming::Order(order)) => self.change(&mut connection, &order, &[])?,
                Some(Incoming::Payload { bytes, last }) => {
                    let (order, so_far) = writing.as_mut().expect("a payload follows its order");
                    so_far.extend_from_slice(bytes);
                    if last {
                        self.change(&mut connection, order, so_far)?;
                    }
                }
                Some(Incoming::Refused { .. } | Incoming::Disconnect) | None => {}
            }
            input.drain(..consumed);
            if consumed == 0 && idle {
                read_more(&mut connection.stream, &mut input)?;
            }
        }
    }

    /// Executes a change or a flush; cut off, it is executed and not acknowledged.
    fn change(&self, connection: &mut Connection, order: &Order, payload: &[u8]) -> std::io::Result<()> {
        let (stream, form) = (&mut connection.stream, connection.form);
        let manner = self.of_connection(connection.number, |state| {
            if !matches!(state.manner, Manner::Fenced | Manner::Closed | Manner::Full | Manner::Failing) {
                execute(state, order, payload);
            }
            state.manner
        })?;
        let to = ReplyTo { cookie: order.cookie, offset: order.offset };
        let mut reply = Vec::new();
        match manner {
            Manner::Fenced => form.put_error(to, ErrorNumber::Perm, &mut reply),
            Manner::Closed => form.put_error(to, ErrorNumber::Shutdown, &mut reply),
            Manner::Full => form.put_error(to, ErrorNumber::NoSpace, &mut reply),
            Manner::Failing => form.put_error(to, ErrorNumber::Io, &mut reply),
            Manner::CutOff | Manner::Silent => {
                self.behave(Manner::Honest);
                return stream.shutdown(Shutdown::Both);
            }
            Manner::Honest | Manner::Gone => form.put_done(to, &mut reply),
        }
        stream.write_all(&reply)
    }

    fn answer(&self, connection: &mut Connection, order: &Order) -> std::io::Result<()> {
        let (stream, form) = (&mut connection.stream, connection.form);
        let (manner, data) = self.of_connection(connection.number, |state| {
            let data = state.bytes[order.offset as usize..][..order.len as usize].to_vec();
            (state.manner, data)
        })?;
        let to = ReplyTo { cookie: order.cookie, offset: order.offset };
        let mut reply = Vec::new();
        if manner == Manner::Failing {
            form.put_error(to, ErrorNumber::Io, &mut reply);
            return stream.write_all(&reply);
        }
        let range = ChunkRange { offset: order.offset, len: order.len as u32, last: true };
        form.put_data_head(to, range, &mut reply);
        reply.extend_from_slice(&data);
        match manner {
            Manner::Honest
            | Manner::Failing
            | Manner::Fenced
            | Manner::Closed
            | Manner::Full
            | Manner::Gone => stream.write_all(&reply),
            Manner::CutOff => {
                self.behave(Manner::Honest);
                stream.write_all(&reply[..reply.len() / 2])?;
                stream.shutdown(Shutdown::Both)
            }
            Manner::Silent => {
                self.behave(Manner::Honest);
                // The client gives up and closes.
                stream.read_to_end(&mut Vec::new()).and(Err(std::io::ErrorKind::BrokenPipe.into()))
            }
        }
    }
}

fn execute(state: &mut State, order: &Order, payload: &[u8]) {
    let at = order.offset as usize..(order.offset + order.len) as usize;
    let fua = match order.kind {
        OrderKind::Write { fua } => {
            state.bytes[at.clone()].copy_from_slice(payload);
            fua
        }
        OrderKind::Trim { fua } | OrderKind::WriteZeroes { fua } => {
            state.bytes[at.clone()].fill(0);
            fua
        }
        _ => {
            state.flushes += 1;
            state.durable = Some(state.bytes.clone());
            return;
        }
    };
    state.executed += 1;
    if let Some(durable) = state.durable.as_mut().filter(|_| fua) {
        durable[at.clone()].copy_from_slice(&state.bytes[at]);
    }
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        len => {
            input.extend_from_slice(&buffer[..len]);
            Ok(())
        }
    }
}

/// Bytes in which every position tells where it is.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}
