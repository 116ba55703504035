//! What becomes of one request: done now, asked of a server, or handed to the pool.

use super::Replies;
use super::pool::{Job, Pool};
use crate::device_disk::DeviceDisk;
use crate::remote::RemoteRead;
use disk::{BlockError, BlockIo, ExtentKind};
use model::ByteRange;
use protocol::nbd::ErrorNumber;
use protocol::nbd::server::{Incoming, Order, OrderKind, ReplyTo, StatusRun};
use std::io::IoSlice;
use std::sync::Arc;

/// Replies that are ready are sent when they make up this much, so that a long batch of cached
/// reads does not pile up; by eye.
const SEND_BYTES: usize = 256 * 1024;
/// The most extents in one answer; clients ask again for the rest.
const MAX_EXTENTS: usize = 512;

/// The requests of one session: what is ready to be answered, what must be asked of a server.
pub(super) struct Orders {
    disk: Arc<DeviceDisk>,
    replies: Replies,
    pool: Pool,
    ready: Vec<u8>,
    reads: Vec<RemoteRead>,
    /// A write whose payload has begun to come.
    writing: Option<(Order, Vec<u8>)>,
}

impl Orders {
    pub(super) fn new(disk: &Arc<DeviceDisk>, replies: Replies) -> std::io::Result<Self> {
        let pool = Pool::start(disk, &replies)?;
        let (ready, reads) = (Vec::new(), Vec::new());
        Ok(Self { disk: Arc::clone(disk), replies, pool, ready, reads, writing: None })
    }

    /// Does a request or hands it on.
    pub(super) fn take(&mut self, incoming: Incoming<'_>) {
        match incoming {
            Incoming::Order(order) => self.order(order),
            Incoming::Payload { bytes, last } => self.payload(bytes, last),
            Incoming::Refused { cookie, offset, error } => {
                self.answer(ReplyTo { cookie, offset }, Err(error));
            }
            Incoming::Disconnect => {}
        }
    }

    /// Sends what is ready and what must be asked.
    pub(super) fn finish_batch(&mut self) {
        if !self.reads.is_empty() {
            self.disk.cache.parent().submit(std::mem::take(&mut self.reads));
        }
        self.send_ready();
    }

    fn order(&mut self, order: Order) {
        let range = ByteRange::new(order.offset, order.len);
        let to = reply_to(&order);
        match order.kind {
            OrderKind::Read { .. } if order.len > 0 => self.read(to, range),
            OrderKind::Write { .. } if order.len > 0 => self.writing = Some((order, Vec::new())),
            OrderKind::Trim { .. } => self.change(to, Job::Trim(range)),
            OrderKind::WriteZeroes { .. } => self.change(to, Job::WriteZeroes(range)),
            OrderKind::BlockStatus { one } => self.status(to, range, if one { 1 } else { MAX_EXTENTS }),
            // Writes are in memory already, and "durable" means nothing there.
            OrderKind::Flush | OrderKind::Cache | OrderKind::Read { .. } | OrderKind::Write { .. } => {
                self.answer(to, Ok(()));
            }
        }
    }

    fn payload(&mut self, bytes: &[u8], last: bool) {
        let Some((order, mut so_far)) = self.writing.take() else { return };
        let to = reply_to(&order);
        let range = ByteRange::new(order.offset, order.len);
        if last && so_far.is_empty() && self.disk.cache.is_local(range) {
            let result = self.disk.cache.write_at(order.offset, bytes);
            return self.answer(to, result.map_err(|error| number_of(&error)));
        }
        so_far.extend_from_slice(bytes);
        match last {
            true => self.change(to, Job::Write(order.offset, so_far)),
            false => self.writing = Some((order, so_far)),
        }
    }

    fn read(&mut self, to: ReplyTo, range: ByteRange) {
        self.disk.note_read();
        let mut buffer = vec![0; range.len as usize];
        match self.disk.cache.read_cached(range.offset, &mut buffer) {
            Ok(Some(missing)) => self.ask(to, missing, buffer),
            Ok(None) => {
                self.replies.put_data_head(to, &buffer, &mut self.ready);
                self.ready.extend_from_slice(&buffer);
                if self.ready.len() >= SEND_BYTES {
                    self.send_ready();
                }
            }
            Err(error) => self.answer(to, Err(number_of(&error))),
        }
    }

    /// Asks a server for the part of a read that is not in the cache.
    fn ask(&mut self, to: ReplyTo, missing: ByteRange, mut buffer: Vec<u8>) {
        let (replies, disk) = (self.replies.clone(), Arc::downgrade(&self.disk));
        let done = move |result: Result<Vec<u8>, BlockError>| {
            let merged = result.and_then(|bytes| {
                let from = (missing.offset - to.offset) as usize;
                buffer[from..from + bytes.len()].copy_from_slice(&bytes);
                let disk = disk.upgrade().ok_or(BlockError::Closed)?;
                disk.cache.overlay_cached(to.offset, &mut buffer)
            });
            match merged {
                Ok(()) => replies.send_data(to, &buffer),
                Err(error) => replies.send(to, Err(number_of(&error))),
            }
        };
        self.reads.push(RemoteRead { range: missing, done: Box::new(done) });
    }

    fn change(&mut self, to: ReplyTo, job: Job) {
        if self.disk.cache.is_local(job.range()) {
            let result = job.run(&self.disk.cache);
            self.answer(to, result.map_err(|error| number_of(&error)));
        } else {
            self.pool.add(to, job);
        }
    }

    fn status(&mut self, to: ReplyTo, range: ByteRange, limit: usize) {
        match self.disk.cache.extents(range, limit) {
            Err(error) => self.answer(to, Err(number_of(&error))),
            Ok(extents) => {
                let run = |extent: &disk::Extent| StatusRun {
                    len: extent.len,
                    hole: extent.kind == ExtentKind::Hole,
                };
                let runs: Vec<StatusRun> = extents.iter().map(run).collect();
                self.replies.form.put_status(to, &runs, &mut self.ready);
            }
        }
    }

    fn answer(&mut self, to: ReplyTo, result: Result<(), ErrorNumber>) {
        self.replies.put(to, result, &mut self.ready);
    }

    fn send_ready(&mut self) {
        if !self.ready.is_empty() {
            let _ = self.replies.send_all(&mut [IoSlice::new(&self.ready)]);
            self.ready.clear();
        }
    }
}

fn reply_to(order: &Order) -> ReplyTo {
    ReplyTo { cookie: order.cookie, offset: order.offset }
}

/// The protocol's number for an error of the disk.
pub(super) fn number_of(error: &BlockError) -> ErrorNumber {
    match error {
        BlockError::OutOfRange => ErrorNumber::Invalid,
        BlockError::ReadOnly => ErrorNumber::Perm,
        BlockError::NoSpace => ErrorNumber::NoSpace,
        BlockError::Io(_) => ErrorNumber::Io,
        BlockError::Closed => ErrorNumber::Shutdown,
    }
}
