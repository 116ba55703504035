//! What becomes of one request: done now, asked of a server, or handed to the pool.

use super::Replies;
use super::pool::{Job, Pool};
use crate::device_disk::{DeviceDisk, DiskKind};
use crate::remote::{Action, RemoteCall, RemoteDisk};
use disk::{BlockError, BlockIo, ExtentKind, RamCache};
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
    home: Home,
    ready: Vec<u8>,
    calls: Vec<RemoteCall>,
    /// A write whose payload has begun to come.
    writing: Option<(Order, Vec<u8>)>,
}

/// Where requests end.
enum Home {
    /// In the write cache; the pool has the changes that must first read from a server.
    Cache(Arc<RamCache<RemoteDisk>>, Pool),
    /// At the server, all of them.
    Server,
}

impl Orders {
    pub(super) fn new(disk: &Arc<DeviceDisk>, replies: Replies) -> std::io::Result<Self> {
        let home = match &disk.kind {
            DiskKind::Cached(cache) => Home::Cache(Arc::clone(cache), Pool::start(cache, &replies)?),
            DiskKind::Draft(_) => Home::Server,
        };
        let (ready, calls) = (Vec::new(), Vec::new());
        Ok(Self { disk: Arc::clone(disk), replies, home, ready, calls, writing: None })
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
        if !self.calls.is_empty() {
            self.disk.remote().submit(std::mem::take(&mut self.calls));
        }
        self.send_ready();
    }

    fn order(&mut self, order: Order) {
        let range = ByteRange::new(order.offset, order.len);
        let to = reply_to(&order);
        match order.kind {
            OrderKind::Read { .. } if order.len > 0 => self.read(to, range),
            OrderKind::Write { .. } if order.len > 0 => self.writing = Some((order, Vec::new())),
            OrderKind::Trim { fua } => self.change(to, Job::Trim(range), fua),
            OrderKind::WriteZeroes { fua } => self.change(to, Job::WriteZeroes(range), fua),
            OrderKind::BlockStatus { one } => self.status(to, range, if one { 1 } else { MAX_EXTENTS }),
            OrderKind::Flush => self.flush(to),
            OrderKind::Cache | OrderKind::Read { .. } | OrderKind::Write { .. } => self.answer(to, Ok(())),
        }
    }

    fn payload(&mut self, bytes: &[u8], last: bool) {
        let Some((order, mut so_far)) = self.writing.take() else { return };
        let to = reply_to(&order);
        let range = ByteRange::new(order.offset, order.len);
        if let Home::Cache(cache, _) = &self.home
            && last
            && so_far.is_empty()
            && cache.is_local(range)
        {
            let result = cache.write_at(order.offset, bytes);
            return self.answer(to, result.map_err(|error| number_of(&error)));
        }
        if so_far.is_empty() {
            so_far.reserve_exact(order.len as usize); // the parser bounds it to 32 MiB
        }
        so_far.extend_from_slice(bytes);
        match last {
            true => self.change(to, Job::Write(order.offset, so_far), is_fua(&order)),
            false => self.writing = Some((order, so_far)),
        }
    }

    fn read(&mut self, to: ReplyTo, range: ByteRange) {
        self.disk.note_read();
        match &self.home {
            Home::Cache(cache, _) => self.read_cached(to, range, &Arc::clone(cache)),
            Home::Server => {
                let replies = self.replies.clone();
                let done = move |result: Result<Vec<u8>, BlockError>| match result {
                    Ok(bytes) => replies.send_data(to, &bytes),
                    Err(error) => replies.send(to, Err(number_of(&error))),
                };
                self.calls.push(RemoteCall { range, action: Action::Read, done: Box::new(done) });
            }
        }
    }

    fn read_cached(&mut self, to: ReplyTo, range: ByteRange, cache: &Arc<RamCache<RemoteDisk>>) {
        let mut buffer = vec![0; range.len as usize];
        match cache.read_cached(range.offset, &mut buffer) {
            Ok(Some(missing)) => self.ask(to, missing, buffer, cache),
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
    fn ask(
        &mut self,
        to: ReplyTo,
        missing: ByteRange,
        mut buffer: Vec<u8>,
        cache: &Arc<RamCache<RemoteDisk>>,
    ) {
        let (replies, cache) = (self.replies.clone(), Arc::downgrade(cache));
        let done = move |result: Result<Vec<u8>, BlockError>| {
            let merged = result.and_then(|bytes| {
                let from = (missing.offset - to.offset) as usize;
                buffer[from..from + bytes.len()].copy_from_slice(&bytes);
                let cache = cache.upgrade().ok_or(BlockError::Closed)?;
                cache.overlay_cached(to.offset, &mut buffer)
            });
            match merged {
                Ok(()) => replies.send_data(to, &buffer),
                Err(error) => replies.send(to, Err(number_of(&error))),
            }
        };
        self.calls.push(RemoteCall { range: missing, action: Action::Read, done: Box::new(done) });
    }

    fn change(&mut self, to: ReplyTo, job: Job, fua: bool) {
        let range = job.range();
        match &self.home {
            Home::Cache(cache, _) if cache.is_local(range) => {
                let result = job.run(cache);
                self.answer(to, result.map_err(|error| number_of(&error)));
            }
            Home::Cache(_, pool) => pool.add(to, job),
            // Requests of the kernel have 32-bit lengths.
            Home::Server if u32::try_from(range.len).is_err() => self.answer(to, Err(ErrorNumber::Invalid)),
            Home::Server => self.call(
                to,
                range,
                match job {
                    Job::Write(_, bytes) => Action::Write { bytes: Arc::new(bytes), fua },
                    Job::Trim(_) => Action::Trim { fua },
                    Job::WriteZeroes(_) => Action::WriteZeroes { fua },
                },
            ),
        }
    }

    fn flush(&mut self, to: ReplyTo) {
        match self.home {
            // Writes are in memory already, and "durable" means nothing there.
            Home::Cache(..) => self.answer(to, Ok(())),
            Home::Server => self.call(to, ByteRange::new(0, 0), Action::Flush),
        }
    }

    /// Asks a server for something that has no data to give back.
    fn call(&mut self, to: ReplyTo, range: ByteRange, action: Action) {
        let replies = self.replies.clone();
        let done = move |result: Result<Vec<u8>, BlockError>| {
            replies.send(to, result.map(drop).map_err(|error| number_of(&error)));
        };
        self.calls.push(RemoteCall { range, action, done: Box::new(done) });
    }

    fn status(&mut self, to: ReplyTo, range: ByteRange, limit: usize) {
        let extents = match &self.home {
            Home::Cache(cache, _) => cache.extents(range, limit),
            Home::Server => self.disk.remote().extents(range, limit),
        };
        match extents {
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

fn is_fua(order: &Order) -> bool {
    matches!(order.kind, OrderKind::Write { fua: true })
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
