//! An open session: requests to replies.
//!
//! Decides for each order whether it is answered here (in memory, or nothing to do) or by the
//! pool; writes replies into the outbox and never touches the socket.

use crate::connection::Context;
use crate::directory::{Export, SessionTotals};
use crate::outbox::Outbox;
use crate::pool::{Job, Outcome, Yield};
use crate::sessions::Session;
use disk::{Access, BlockError, BlockIo, MappedSlice, Piece};
use model::ByteRange;
use protocol::nbd::ErrorNumber;
use protocol::nbd::server::{
    self as nbd, BadRequest, ChunkRange, Incoming, Order, OrderKind, ReplyForm, ReplyTo, RequestParser,
};
use std::sync::Arc;

/// Replies waiting on a connection above which no request of it is read, in bytes.
const MAX_QUEUED_BYTES: u64 = 4 << 20;
/// Jobs of one connection in the pool above which no request of it is read: what one client can
/// take of the pool's queue.
const MAX_JOBS: u32 = 64;
/// The same in bytes of their payloads: two requests of the largest size.
const MAX_JOB_BYTES: u64 = 64 << 20;
/// How much of a write's payload is asked of the allocator at once, in bytes.
const PAYLOAD_STEP: usize = 1 << 20;

/// One open session.
pub(crate) struct Serving {
    parser: RequestParser,
    form: ReplyForm,
    pub(crate) disk: Arc<dyn BlockIo>,
    pub(crate) session: Arc<Session>,
    /// The write whose payload is coming in.
    write: Option<(Order, Vec<u8>)>,
    jobs: u32,
    job_bytes: u64,
}

/// Why a batch of requests stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Everything complete is done; this many bytes were used.
    Done(usize),
    /// Too much is under way: this many bytes were used, the rest must wait.
    Full(usize),
    /// The client said good-bye.
    Disconnect,
    /// The client broke the protocol.
    Bad(BadRequest),
}

impl Serving {
    pub(crate) fn new(agreed: nbd::Session, export: Export, session: Arc<Session>) -> Self {
        let parser = RequestParser::new(agreed);
        let (form, disk) = (agreed.form, export.disk);
        Self { parser, form, disk, session, write: None, jobs: 0, job_bytes: 0 }
    }

    /// Whether no further request should be taken now.
    pub(crate) fn is_full(&self, outbox: &Outbox) -> bool {
        outbox.len() > MAX_QUEUED_BYTES || self.jobs >= MAX_JOBS || self.job_bytes > MAX_JOB_BYTES
    }

    /// Whether nothing is under way in the pool.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs == 0
    }

    /// Takes all complete requests of `input`.
    pub(crate) fn take(&mut self, input: &[u8], outbox: &mut Outbox, cx: &Context<'_>) -> Batch {
        let disk = Arc::clone(&self.disk);
        let (mut pieces, mut totals, mut at) = (Vec::new(), SessionTotals::default(), 0);
        let end = loop {
            if self.is_full(outbox) {
                break Batch::Full(at);
            }
            let parsed = match self.parser.next(&input[at..]) {
                Ok(parsed) => parsed,
                Err(bad) => break Batch::Bad(bad),
            };
            at += parsed.consumed;
            match parsed.incoming {
                Some(Incoming::Order(order)) => {
                    totals.requests += 1;
                    self.order(&*disk, order, &mut pieces, outbox, &mut totals, cx);
                }
                Some(Incoming::Payload { bytes, last }) => self.payload(bytes, last, &mut totals, cx),
                Some(Incoming::Refused { cookie, offset, error }) => {
                    totals.requests += 1;
                    self.refuse(ReplyTo { cookie, offset }, error, outbox, &mut totals);
                }
                Some(Incoming::Disconnect) => break Batch::Disconnect,
                None if parsed.consumed == 0 => break Batch::Done(at),
                None => {}
            }
        };
        self.session.counters.add(&totals);
        end
    }

    /// Answers what the pool has done.
    pub(crate) fn done(&mut self, outcome: Outcome, outbox: &mut Outbox) {
        let Outcome { order, result } = outcome;
        self.jobs -= 1;
        self.job_bytes -= payload_len(&order);
        let (to, mut totals) = (reply_to(&order), SessionTotals::default());
        match result {
            Ok(Yield::Nothing) => outbox.head(|out| self.form.put_done(to, out)),
            Ok(Yield::Bytes(bytes)) => {
                totals.read_bytes += order.len;
                let range = ChunkRange { offset: order.offset, len: bytes.len() as u32, last: true };
                outbox.head(|out| self.form.put_data_head(to, range, out));
                outbox.owned(bytes);
            }
            Ok(Yield::Runs(runs)) => outbox.head(|out| self.form.put_status(to, &runs, out)),
            Err(error) => {
                tracing::debug!(export = self.session.name, %error, ?order, "request failed");
                self.refuse(to, error_number(&error), outbox, &mut totals);
            }
        }
        self.session.counters.add(&totals);
    }

    #[inline]
    fn order<'d>(
        &mut self,
        disk: &'d dyn BlockIo,
        order: Order,
        pieces: &mut Vec<Piece<'d>>,
        outbox: &mut Outbox,
        totals: &mut SessionTotals,
        cx: &Context<'_>,
    ) {
        match order.kind {
            OrderKind::Read { whole } => {
                pieces.clear();
                if disk.read_resident(ByteRange::new(order.offset, order.len), pieces) {
                    totals.read_bytes += order.len;
                    put_read(self.form, &order, whole, pieces, outbox);
                } else {
                    totals.misses += 1;
                    self.submit(order, Vec::new(), cx);
                }
            }
            OrderKind::Write { .. } => self.write = Some((order, Vec::new())),
            OrderKind::Flush if disk.geometry().access == Access::ReadOnly => {
                outbox.head(|out| self.form.put_done(reply_to(&order), out));
            }
            _ => self.submit(order, Vec::new(), cx),
        }
    }

    fn payload(&mut self, bytes: &[u8], last: bool, totals: &mut SessionTotals, cx: &Context<'_>) {
        let (order, payload) = self.write.as_mut().expect("a payload follows its write");
        if payload.capacity() - payload.len() < bytes.len() {
            let missing = order.len as usize - payload.len();
            payload.reserve_exact(missing.min(payload.len().max(PAYLOAD_STEP)).max(bytes.len()));
        }
        payload.extend_from_slice(bytes);
        if last && let Some((order, payload)) = self.write.take() {
            totals.written_bytes += order.len;
            self.submit(order, payload, cx);
        }
    }

    fn submit(&mut self, order: Order, payload: Vec<u8>, cx: &Context<'_>) {
        self.jobs += 1;
        self.job_bytes += payload_len(&order);
        cx.submit(Job {
            disk: Arc::clone(&self.disk),
            order,
            payload,
            token: cx.token,
            mailbox: Arc::clone(cx.mailbox),
        });
    }

    fn refuse(&self, to: ReplyTo, error: ErrorNumber, outbox: &mut Outbox, totals: &mut SessionTotals) {
        totals.errors += 1;
        outbox.head(|out| self.form.put_error(to, error, out));
    }
}

/// Queues the reply to a read whose bytes are in memory.
#[inline]
fn put_read(form: ReplyForm, order: &Order, whole: bool, pieces: &[Piece<'_>], outbox: &mut Outbox) {
    let to = reply_to(order);
    let has_holes = pieces.iter().any(|piece| matches!(piece, Piece::Zero(_)));
    if form.has_chunks() && has_holes && !whole {
        return put_chunks(form, order, pieces, outbox);
    }
    let range = ChunkRange { offset: order.offset, len: order.len as u32, last: true };
    outbox.head(|out| form.put_data_head(to, range, out));
    put_pieces(order.offset, pieces, outbox);
}

/// Queues a reply as chunks: each run of data one, each run of zeros a hole.
fn put_chunks(form: ReplyForm, order: &Order, pieces: &[Piece<'_>], outbox: &mut Outbox) {
    let (to, end) = (reply_to(order), order.offset + order.len);
    let mut offset = order.offset;
    for run in pieces.chunk_by(|a, b| is_hole(a) == is_hole(b)) {
        let len = run.iter().map(piece_len).sum();
        let range = ChunkRange { offset, len, last: offset + u64::from(len) == end };
        if is_hole(&run[0]) {
            outbox.head(|out| form.put_hole(to, range, out));
        } else {
            outbox.head(|out| form.put_data_head(to, range, out));
            put_pieces(offset, run, outbox);
        }
        offset += u64::from(len);
    }
}

#[inline]
fn put_pieces(mut disk_offset: u64, pieces: &[Piece<'_>], outbox: &mut Outbox) {
    for piece in pieces {
        match piece {
            Piece::Mapped(slice) => outbox.in_place(*slice),
            Piece::Zero(len) => outbox.zeroes(*len),
            // The disk keeps the bytes for as long as we keep the disk (`read_resident`).
            Piece::Memory(bytes) => {
                let (address, len) = (bytes.as_ptr() as usize, bytes.len() as u32);
                outbox.in_place(MappedSlice { address, len, disk_offset, file: None });
            }
        }
        disk_offset += u64::from(piece_len(piece));
    }
}

fn is_hole(piece: &Piece<'_>) -> bool {
    matches!(piece, Piece::Zero(_))
}

fn piece_len(piece: &Piece<'_>) -> u32 {
    match piece {
        Piece::Memory(bytes) => bytes.len() as u32,
        Piece::Zero(len) => *len,
        Piece::Mapped(slice) => slice.len,
    }
}

fn reply_to(order: &Order) -> ReplyTo {
    ReplyTo { cookie: order.cookie, offset: order.offset }
}

/// The memory that an order holds while it is under way.
fn payload_len(order: &Order) -> u64 {
    match order.kind {
        OrderKind::Read { .. } | OrderKind::Write { .. } => order.len,
        _ => 0,
    }
}

fn error_number(error: &BlockError) -> ErrorNumber {
    match error {
        BlockError::OutOfRange => ErrorNumber::Invalid,
        BlockError::ReadOnly => ErrorNumber::Perm,
        BlockError::NoSpace => ErrorNumber::NoSpace,
        BlockError::Io(_) => ErrorNumber::Io,
        BlockError::Closed => ErrorNumber::Shutdown,
    }
}
