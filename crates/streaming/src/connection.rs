//! One client: its socket, its handshake or session, what is still to be sent.

use crate::directory::{Export, ExportRefusal, Peer};
use crate::kernel::{Convoy, Gather};
use crate::mailbox::{Mailbox, Token};
use crate::outbox::{Outbox, Sent};
use crate::pool::{Job, Outcome};
use crate::server::Shared;
use crate::serving::{Batch, Serving};
use crate::tls::TlsStream;
use model::ByteRange;
use protocol::nbd::server::{Event, ExportShape, Handshake, OpenPurpose, OpenRefusal};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// What a connection needs of its worker for one step.
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) mailbox: &'a Arc<Mailbox>,
    pub(crate) token: Token,
}

impl Context<'_> {
    pub(crate) fn submit(&self, job: Job) {
        let range = ByteRange::new(job.order.offset, job.order.len);
        match job.disk.is_far(range) {
            true => self.shared.far_pool.submit(job),
            false => self.shared.pool.submit(job),
        }
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There was nothing to read.
    Idle,
    /// Something was read and dealt with.
    Did,
    /// The connection is over.
    Ended,
}

/// The state of one connection.
pub(crate) struct Connection {
    socket: OwnedFd,
    peer: Peer,
    born: Instant,
    tls: Option<Box<TlsStream>>,
    phase: Phase,
    /// Bytes that were read and are not dealt with yet.
    leftover: Vec<u8>,
    outbox: Outbox,
    /// Complete requests may be waiting in `leftover`.
    held_back: bool,
    /// Nothing more is read; it is over when everything under way is done and sent.
    ending: bool,
}

enum Phase {
    Handshake(Box<Negotiation>),
    Serving(Box<Serving>),
}

struct Negotiation {
    handshake: Handshake,
    /// What an INFO has opened, kept for the GO that follows.
    opened: Option<(String, Export)>,
}

impl Connection {
    /// Greets a new client.
    pub(crate) fn new(socket: OwnedFd, peer: Peer, shared: &Shared) -> Self {
        let (mut outbox, mut greeting) = (Outbox::default(), Vec::new());
        let handshake = Handshake::new(shared.tls.offer(), &mut greeting);
        outbox.head(|out| out.extend_from_slice(&greeting));
        let phase = Phase::Handshake(Box::new(Negotiation { handshake, opened: None }));
        let (born, leftover) = (Instant::now(), Vec::new());
        Self { socket, peer, born, tls: None, phase, leftover, outbox, held_back: false, ending: false }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The time since when it has been in its handshake; none once it serves.
    pub(crate) fn handshake_since(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Handshake(_)).then_some(self.born)
    }

    /// The session, where one is open.
    pub(crate) fn serving(&self) -> Option<&Serving> {
        match &self.phase {
            Phase::Serving(serving) => Some(serving),
            Phase::Handshake(_) => None,
        }
    }

    /// What epoll should tell about.
    pub(crate) fn interest(&self) -> EventFlags {
        let mut interest = EventFlags::empty();
        if !self.ending && !self.is_full() {
            interest |= EventFlags::IN;
        }
        if !self.outbox.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            interest |= EventFlags::OUT;
        }
        interest
    }

    /// Takes nothing new from now on.
    pub(crate) fn wind_down(&mut self) {
        self.ending = true;
    }

    /// Whether there is nothing left to do for it.
    pub(crate) fn is_over(&self) -> bool {
        self.ending && self.outbox.is_empty() && self.serving().is_none_or(Serving::is_idle)
    }

    /// Whether bytes may be waiting that epoll knows nothing of.
    pub(crate) fn holds_plaintext(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads once (with TLS: all there is) and answers what came.
    pub(crate) fn readable(&mut self, scratch: &mut [u8], gather: &mut Gather, cx: &Context<'_>) -> Progress {
        let mut progress = Progress::Idle;
        loop {
            match self.take_in(scratch, cx) {
                Progress::Idle => return progress,
                Progress::Ended => return Progress::Ended,
                Progress::Did => progress = self.settle(scratch, gather, cx),
            }
            if progress == Progress::Ended || self.tls.is_none() {
                return progress;
            }
        }
    }

    /// Reads once and works on what came; the answers wait to be sent.
    pub(crate) fn take_in(&mut self, scratch: &mut [u8], cx: &Context<'_>) -> Progress {
        while !self.ending && !self.is_full() && !self.held_back {
            let kept = self.leftover.len();
            scratch[..kept].copy_from_slice(&self.leftover);
            match self.receive(&mut scratch[kept..]) {
                Ok(0) => return Progress::Ended,
                Ok(len) => {
                    self.leftover.clear();
                    self.digest(&scratch[..kept + len], cx);
                    return Progress::Did;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Progress::Ended,
            }
        }
        Progress::Idle
    }

    /// Whether its answers can be sent together with those of others.
    pub(crate) fn may_join(&self) -> bool {
        self.tls.is_none() && matches!(self.phase, Phase::Serving(_))
    }

    /// Adds its next send to the convoy; false where there is none of that kind.
    pub(crate) fn join(&self, convoy: &mut Convoy, gather: &mut Gather) -> bool {
        let joins = self.may_join() && self.outbox.offer(gather);
        if joins {
            convoy.add(self.socket.as_fd(), gather);
        }
        joins
    }

    /// Goes on after its part of a convoy was sent, or refused.
    pub(crate) fn arrived(
        &mut self,
        sent: Result<usize, Errno>,
        scratch: &mut [u8],
        gather: &mut Gather,
        cx: &Context<'_>,
    ) -> Progress {
        self.outbox.sent(sent.unwrap_or(0)); // an error comes again, and is dealt with, below
        self.settle(scratch, gather, cx)
    }

    /// Answers what the pool has done; [`Connection::flush`] is to follow.
    pub(crate) fn done(&mut self, outcome: Outcome) {
        if let Phase::Serving(serving) = &mut self.phase {
            serving.done(outcome, &mut self.outbox);
        }
    }

    /// Goes on with requests that were held back, where there is room again.
    pub(crate) fn resume(&mut self, scratch: &mut [u8], gather: &mut Gather, cx: &Context<'_>) -> Progress {
        if !self.digest_held_back(scratch, cx) {
            return Progress::Idle;
        }
        self.settle(scratch, gather, cx)
    }

    /// Sends; goes on with what was held back for as long as sending makes room for it.
    pub(crate) fn settle(&mut self, scratch: &mut [u8], gather: &mut Gather, cx: &Context<'_>) -> Progress {
        loop {
            let progress = self.flush(gather);
            if progress == Progress::Ended || !self.digest_held_back(scratch, cx) {
                return progress;
            }
        }
    }

    fn digest_held_back(&mut self, scratch: &mut [u8], cx: &Context<'_>) -> bool {
        if !self.held_back || self.ending || self.is_full() {
            return false;
        }
        let kept = self.leftover.len();
        scratch[..kept].copy_from_slice(&self.leftover);
        self.leftover.clear();
        self.digest(&scratch[..kept], cx);
        true
    }

    /// Sends what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self, gather: &mut Gather) -> Progress {
        loop {
            match self.send(gather) {
                Sent::All | Sent::Blocked => break,
                Sent::Broken => return Progress::Ended,
                Sent::Unreadable(slice) => {
                    // The page went away after it was found resident. Blocks this worker for one
                    // read; the head is sent already, so an error can only end the connection.
                    let mut bytes = vec![0; slice.len as usize];
                    let disk = self.serving().map(|serving| Arc::clone(&serving.disk));
                    let read = disk.map(|disk| disk.read_at(slice.disk_offset, &mut bytes));
                    let Some(Ok(())) = read else { return Progress::Ended };
                    self.outbox.replace_front(bytes);
                }
            }
        }
        if self.is_over() { Progress::Ended } else { Progress::Did }
    }

    fn send(&mut self, gather: &mut Gather) -> Sent {
        let Some(tls) = &mut self.tls else { return self.outbox.send(self.socket.as_fd(), gather) };
        let disk = match &self.phase {
            Phase::Serving(serving) => Some(&*serving.disk),
            Phase::Handshake(_) => None,
        };
        tls.send(&mut self.outbox, self.socket.as_fd(), disk)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.read(self.socket.as_fd(), buffer),
            None => match recv(&self.socket, buffer, RecvFlags::DONTWAIT) {
                Ok((_, len)) => Ok(len),
                Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => Err(error.into()),
            },
        }
    }

    fn is_full(&self) -> bool {
        match &self.phase {
            Phase::Serving(serving) => serving.is_full(&self.outbox),
            Phase::Handshake(_) => false,
        }
    }

    /// Deals with `input`, keeping what is incomplete.
    fn digest(&mut self, input: &[u8], cx: &Context<'_>) {
        let mut at = 0;
        self.held_back = false;
        while !self.ending {
            let (used, more) = match &mut self.phase {
                Phase::Handshake(_) => self.negotiate(&input[at..], cx),
                Phase::Serving(serving) => match serving.take(&input[at..], &mut self.outbox, cx) {
                    Batch::Done(used) => (used, false),
                    Batch::Full(used) => {
                        self.held_back = true;
                        (used, false)
                    }
                    Batch::Disconnect => {
                        self.ending = true;
                        (0, false)
                    }
                    Batch::Bad(error) => {
                        tracing::debug!(peer = %self.peer, %error, "session ended");
                        self.ending = true;
                        (0, false)
                    }
                },
            };
            at += used;
            if !more {
                break;
            }
        }
        if !self.ending {
            self.leftover.extend_from_slice(&input[at..]);
        }
    }

    /// One step of the handshake: the bytes used, and whether to go on.
    fn negotiate(&mut self, input: &[u8], cx: &Context<'_>) -> (usize, bool) {
        let Phase::Handshake(negotiation) = &mut self.phase else { return (0, false) };
        let mut output = Vec::new();
        let step = negotiation.handshake.receive(input, &mut output);
        self.put(&output);
        match step.event {
            Event::NeedMore => (step.consumed, false),
            Event::Close => {
                self.ending = true;
                (step.consumed, false)
            }
            Event::StartTls => {
                // Bytes after STARTTLS were sent in the clear and must not be believed later.
                let clean = step.consumed == input.len();
                self.ending = !(clean && self.start_tls(cx));
                (step.consumed, false)
            }
            Event::OpenExport { name, purpose } => {
                self.open(&name, purpose, cx);
                (step.consumed, true)
            }
        }
    }

    fn put(&mut self, output: &[u8]) {
        if !output.is_empty() {
            self.outbox.head(|out| out.extend_from_slice(output));
        }
    }

    /// Sends the acknowledgement in the clear, then begins TLS. False where that cannot be.
    fn start_tls(&mut self, cx: &Context<'_>) -> bool {
        let sent = self.outbox.send(self.socket.as_fd(), &mut Gather::new());
        let (Sent::All, Some(tls)) = (sent, cx.shared.tls.begin()) else { return false };
        self.tls = Some(Box::new(tls));
        if let Phase::Handshake(negotiation) = &mut self.phase {
            negotiation.handshake = negotiation.handshake.clone().over_tls();
            negotiation.opened = None;
        }
        true
    }

    fn open(&mut self, name: &str, purpose: OpenPurpose, cx: &Context<'_>) {
        let Phase::Handshake(negotiation) = &mut self.phase else { return };
        let kept = negotiation.opened.take().filter(|(opened, _)| opened == name);
        let export = match kept {
            Some((_, export)) => Ok(export),
            None => cx.shared.directory.open(name, self.peer),
        };
        match export {
            Ok(export) if purpose == OpenPurpose::Info => self.tell(name, export),
            Ok(export) => self.begin(name, export, cx),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn tell(&mut self, name: &str, export: Export) {
        let Phase::Handshake(negotiation) = &mut self.phase else { return };
        let mut output = Vec::new();
        negotiation.handshake.opened(&shape(&export), &mut output);
        negotiation.opened = Some((name.to_owned(), export));
        self.put(&output);
    }

    fn begin(&mut self, name: &str, export: Export, cx: &Context<'_>) {
        let Some(session) = cx.shared.sessions.begin(name, self.peer, export.max_connections) else {
            return self.refuse(ExportRefusal::Forbidden);
        };
        let Phase::Handshake(negotiation) = &mut self.phase else { return };
        let mut output = Vec::new();
        let agreed = negotiation.handshake.opened(&shape(&export), &mut output);
        self.put(&output);
        let agreed = agreed.expect("GO and EXPORT_NAME begin a session");
        self.phase = Phase::Serving(Box::new(Serving::new(agreed, export, session)));
    }

    fn refuse(&mut self, refusal: ExportRefusal) {
        let Phase::Handshake(negotiation) = &mut self.phase else { return };
        let why = match refusal {
            ExportRefusal::Unknown => OpenRefusal::Unknown,
            ExportRefusal::Forbidden => OpenRefusal::Policy,
            ExportRefusal::Stopping => OpenRefusal::Shutdown,
        };
        let mut output = Vec::new();
        self.ending |= negotiation.handshake.refused(why, &mut output);
        self.put(&output);
    }
}

fn shape(export: &Export) -> ExportShape {
    let geometry = export.disk.geometry();
    ExportShape {
        size_bytes: geometry.size_bytes,
        read_only: geometry.access == disk::Access::ReadOnly,
        description: export.description.clone(),
    }
}
