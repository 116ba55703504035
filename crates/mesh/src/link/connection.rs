//! One connection after its handshake: frames in, frames out, requests and their answers.

use super::heard::Heard;
use super::{Inner, LinkEvent, MAX_REQUESTS, NO_PANIC};
use crate::identity::Serial;
use crate::peers::PeerDown;
use bytes::BytesMut;
use model::{Name, Root};
use protocol::mesh::{Class, Frame, FrameError, Have, Request, Response, decode};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsStream;

/// Requests, cancellations and possession that wait to be sent. By eye: a peer that reads takes
/// them within milliseconds.
const URGENT: usize = 1024;
/// Parts of answers that wait to be sent: 1 MiB of chunks.
const ANSWERS: usize = 16;
/// How much is encrypted and written at once, in bytes.
const WRITE_BYTES: usize = 64 * 1024;
/// Pieces of one manifest: 64 MiB describe a disk of 100 TiB.
const MANIFEST_PIECES: usize = 64;

pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) peer: Name,
    pub(super) serial: Serial,
    pub(super) class: Class,
    urgent: mpsc::Sender<Frame>,
    pub(super) answers: mpsc::Sender<Frame>,
    haves: mpsc::Sender<Frame>,
    closed: watch::Sender<bool>,
    next_request: AtomicU32,
    /// None once the connection is gone.
    pending: Mutex<Option<HashMap<u32, Pending>>>,
    /// What is being answered, and whether it is still wanted.
    pub(super) answering: Mutex<HashMap<u32, watch::Sender<bool>>>,
    pub(super) turns: Semaphore,
    telling: Mutex<Telling>,
}

/// A request that waits for parts of its answer.
struct Pending {
    to: Sender<Response>,
    parts_left: usize,
    cancelled: bool,
}

/// Changes of possession go out after the whole state, or they would be undone by it.
enum Telling {
    /// The whole state is being told; these came meanwhile.
    All(Vec<Have>),
    Changes,
}

/// What a connection sends.
pub(super) struct Outgoing {
    urgent: mpsc::Receiver<Frame>,
    haves: mpsc::Receiver<Frame>,
    answers: mpsc::Receiver<Frame>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("nothing was heard, or nothing could be sent, for too long")]
    Silent,
    #[error("closed")]
    Closed,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Misplaced(&'static str),
}

impl Connection {
    pub(super) fn new(id: u64, peer: Name, serial: Serial, class: Class) -> (Arc<Self>, Outgoing) {
        let (urgent, urgent_out) = mpsc::channel(URGENT);
        let (haves, haves_out) = mpsc::channel(URGENT);
        let (answers, answers_out) = mpsc::channel(ANSWERS);
        let connection = Self {
            id,
            peer,
            serial,
            class,
            urgent,
            answers,
            haves,
            closed: watch::Sender::new(false),
            next_request: AtomicU32::new(1),
            pending: Mutex::new(Some(HashMap::new())),
            answering: Mutex::default(),
            turns: Semaphore::new(turns(class)),
            telling: Mutex::new(Telling::All(Vec::new())),
        };
        (Arc::new(connection), Outgoing { urgent: urgent_out, haves: haves_out, answers: answers_out })
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Sends a request.
    pub(super) fn request(&self, request: Request) -> Result<Receiver<Response>, PeerDown> {
        let mut pending = self.pending.lock().expect(NO_PANIC);
        let pending = pending.as_mut().filter(|pending| pending.len() < MAX_REQUESTS).ok_or(PeerDown)?;
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (to, answer) = channel();
        let parts_left = most_parts(&request);
        self.urgent.try_send(Frame::Request { id, request }).map_err(|_| PeerDown)?;
        pending.insert(id, Pending { to, parts_left, cancelled: false });
        Ok(answer)
    }

    /// Takes a part of an answer.
    fn answered(&self, id: u32, response: Response) -> Result<(), Ended> {
        let mut pending = self.pending.lock().expect(NO_PANIC);
        let Some(pending) = pending.as_mut() else { return Err(Ended::Closed) };
        let request = pending.get_mut(&id).ok_or(Ended::Misplaced("an answer to no request"))?;
        request.parts_left = request
            .parts_left
            .checked_sub(1)
            .ok_or(Ended::Misplaced("an answer with more parts than the request has"))?;
        let ends = response.ends();
        if request.to.send(response).is_err() && !std::mem::replace(&mut request.cancelled, true) && !ends {
            let _ = self.urgent.try_send(Frame::Cancel { id });
        }
        if ends {
            pending.remove(&id);
        }
        Ok(())
    }

    /// Tells a change of possession; who does not read it is cut off, and is told all when back.
    pub(super) fn tell(&self, have: &Have) {
        let mut telling = self.telling.lock().expect(NO_PANIC);
        let fits = match &mut *telling {
            Telling::All(meanwhile) if meanwhile.len() < URGENT => {
                meanwhile.push(have.clone());
                true
            }
            Telling::All(_) => false,
            Telling::Changes => self.haves.try_send(Frame::Have(have.clone())).is_ok(),
        };
        if !fits {
            self.close();
        }
    }

    /// Tells the whole state, and then what changed meanwhile; blocks.
    pub(super) fn tell_all(&self, all: Vec<Have>) {
        let mut told: HashMap<Root, u64> = HashMap::new();
        for have in all {
            let sequence = told.entry(have.root).or_default();
            *sequence = have.sequence.max(*sequence);
            if self.haves.blocking_send(Frame::Have(have)).is_err() {
                return;
            }
        }
        let _ = self.haves.blocking_send(Frame::HaveEnd);
        let mut telling = self.telling.lock().expect(NO_PANIC);
        let Telling::All(meanwhile) = std::mem::replace(&mut *telling, Telling::Changes) else { return };
        let newer = |have: &Have| told.get(&have.root).is_none_or(|sequence| have.sequence > *sequence);
        let sent = meanwhile.into_iter().filter(newer).map(|have| self.haves.try_send(Frame::Have(have)));
        if sent.into_iter().any(|sent| sent.is_err()) {
            self.close();
        }
    }

    /// Begins to tell the whole state; false where that is being done.
    fn begin_telling(&self) -> bool {
        let mut telling = self.telling.lock().expect(NO_PANIC);
        let begins = matches!(*telling, Telling::Changes);
        if begins {
            *telling = Telling::All(Vec::new());
        }
        begins
    }
}

/// How many requests of one connection are answered at the same time.
fn turns(class: Class) -> usize {
    match class {
        Class::Control => 2,
        Class::OnDemand => 8,
        Class::Bulk => 2,
    }
}

/// How many parts an answer may have, the last one among them.
fn most_parts(request: &Request) -> usize {
    match request {
        Request::GetManifest { .. } => MANIFEST_PIECES + 1,
        Request::GetPages { names } => names.len() + 1,
        Request::GetStatus => 2,
        // Each one comes or is not here; the last list may also be empty.
        Request::GetChunks { chunks, .. } => chunks.len() + 2,
    }
}

/// Runs a connection until it ends, and cleans up after it.
pub(super) async fn run(
    inner: Arc<Inner>,
    connection: Arc<Connection>,
    outgoing: Outgoing,
    stream: TlsStream<TcpStream>,
    received: BytesMut,
) {
    let control = connection.class == Class::Control;
    if control {
        let begun = Heard::Begun(connection.peer.clone(), connection.id);
        let _ = inner.heard.send(begun).await;
        inner.say(LinkEvent::Up(connection.peer.clone()));
        tell_all(&inner, &connection);
    }
    let (reader, writer) = tokio::io::split(stream);
    let mut closed = connection.closed.subscribe();
    let ended = tokio::select! {
        ended = read(&inner, &connection, reader, received) => ended,
        ended = write(&inner, outgoing, writer) => ended,
        _ = closed.wait_for(|closed| *closed) => Ok(()),
    };
    finish(&inner, &connection, ended.err().unwrap_or(Ended::Closed)).await;
}

async fn finish(inner: &Inner, connection: &Connection, why: Ended) {
    connection.close();
    connection.turns.close();
    drop(connection.pending.lock().expect(NO_PANIC).take());
    inner.table().remove(connection);
    let (peer, class) = (connection.peer.clone(), connection.class);
    tracing::debug!(%peer, %class, %why, "a connection has ended");
    if matches!(why, Ended::Frame(_) | Ended::Misplaced(_)) {
        inner.say(LinkEvent::Rubbish { peer: peer.clone(), class, reason: why.to_string() });
    }
    if class == Class::Control {
        let _ = inner.heard.send(Heard::Ended(peer.clone(), connection.id)).await;
        inner.say(LinkEvent::Down(peer));
    }
}

fn tell_all(inner: &Arc<Inner>, connection: &Arc<Connection>) {
    let (handler, connection) = (Arc::clone(&inner.handler), Arc::clone(connection));
    tokio::task::spawn_blocking(move || connection.tell_all(handler.possession()));
}

async fn read(
    inner: &Arc<Inner>,
    connection: &Arc<Connection>,
    mut reader: impl AsyncRead + Unpin,
    mut received: BytesMut,
) -> Result<(), Ended> {
    loop {
        while let Some(frame) = decode(&mut received)? {
            take(inner, connection, frame).await?;
        }
        received.reserve(WRITE_BYTES);
        let read = tokio::time::timeout(inner.options.silence, reader.read_buf(&mut received));
        if read.await.map_err(|_| Ended::Silent)?? == 0 {
            return Err(Ended::Closed);
        }
    }
}

async fn take(inner: &Arc<Inner>, connection: &Arc<Connection>, frame: Frame) -> Result<(), Ended> {
    let control = connection.class == Class::Control;
    match frame {
        Frame::Hello(_) => Err(Ended::Misplaced("a second hello")),
        Frame::Alive => Ok(()),
        Frame::WantHave | Frame::Have(_) | Frame::HaveEnd if !control => {
            Err(Ended::Misplaced("possession on a connection for chunks"))
        }
        Frame::WantHave => {
            if connection.begin_telling() {
                tell_all(inner, connection);
            }
            Ok(())
        }
        Frame::Have(have) => {
            let heard = Heard::Have(connection.peer.clone(), connection.id, have);
            inner.heard.send(heard).await.map_err(|_| Ended::Closed)
        }
        Frame::HaveEnd => Ok(()),
        Frame::Request { id, request } => super::answer::begin(inner, connection, id, request),
        Frame::Cancel { id } => {
            super::answer::cancel(connection, id);
            Ok(())
        }
        Frame::Response { id, response } => connection.answered(id, response),
    }
}

async fn write(
    inner: &Inner,
    mut outgoing: Outgoing,
    mut writer: impl AsyncWrite + Unpin,
) -> Result<(), Ended> {
    let mut bytes = BytesMut::new();
    loop {
        outgoing.next(inner.options.alive).await.encode(&mut bytes);
        while bytes.len() < WRITE_BYTES {
            let Some(frame) = outgoing.at_once() else { break };
            frame.encode(&mut bytes);
        }
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        tokio::time::timeout(inner.options.silence, written).await.map_err(|_| Ended::Silent)??;
        bytes.clear();
    }
}

impl Outgoing {
    /// The next frame, the most urgent first; an [`Frame::Alive`] where there is none for so long.
    async fn next(&mut self, alive: Duration) -> Frame {
        tokio::select! {
            biased;
            Some(frame) = self.urgent.recv() => frame,
            Some(frame) = self.haves.recv() => frame,
            Some(frame) = self.answers.recv() => frame,
            () = tokio::time::sleep(alive) => Frame::Alive,
        }
    }

    fn at_once(&mut self) -> Option<Frame> {
        let urgent = self.urgent.try_recv().or_else(|_| self.haves.try_recv());
        urgent.or_else(|_| self.answers.try_recv()).ok()
    }
}
