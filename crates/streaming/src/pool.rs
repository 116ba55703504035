//! The threads that may block: reads of what is not in memory, and everything that writes.

use crate::mailbox::{Mailbox, Message, Token};
use disk::{BlockError, BlockIo, ExtentKind};
use model::ByteRange;
use protocol::nbd::server::{Order, OrderKind, StatusRun};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// The most extents in one `BLOCK_STATUS` answer: 8 KiB of reply, by eye.
const MAX_EXTENTS: usize = 1024;

/// Something for a pool thread to do.
pub(crate) struct Job {
    pub(crate) disk: Arc<dyn BlockIo>,
    pub(crate) order: Order,
    /// A write's bytes; else empty.
    pub(crate) payload: Vec<u8>,
    pub(crate) token: Token,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) order: Order,
    pub(crate) result: Result<Yield, BlockError>,
}

/// What a job brings.
#[derive(Debug)]
pub(crate) enum Yield {
    /// It is done.
    Nothing,
    /// The bytes of a read.
    Bytes(Vec<u8>),
    /// The runs of a `BLOCK_STATUS`.
    Runs(Vec<StatusRun>),
}

/// The threads and their queue. The queue is bounded by what each connection may have under way.
pub(crate) struct Pool {
    shared: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    stopped: bool,
}

impl Pool {
    /// Starts `threads` of them.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Queue::default());
        let threads = (0..threads.max(1)).map(|number| {
            let queue = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("nbd-pool-{number}")).spawn(move || queue.run())
        });
        let threads = Mutex::new(threads.collect::<io::Result<_>>()?);
        Ok(Self { shared, threads })
    }

    /// Hands a job over; its outcome comes to the job's mailbox.
    pub(crate) fn submit(&self, job: Job) {
        self.shared.state.lock().expect("no thread panics while it holds the queue").jobs.push_back(job);
        self.shared.ready.notify_one();
    }

    /// Ends the threads after the jobs that were submitted.
    pub(crate) fn stop(&self) {
        self.shared.state.lock().expect("no thread panics while it holds the queue").stopped = true;
        self.shared.ready.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().expect("only stop holds the threads"));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a pool thread has panicked");
            }
        }
    }
}

impl Queue {
    fn run(&self) {
        while let Some(job) = self.next() {
            let result = perform(&job);
            let outcome = Outcome { order: job.order, result };
            job.mailbox.post(Message::Done(job.token, outcome));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().expect("no thread panics while it holds the queue");
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.stopped {
                return None;
            }
            state = self.ready.wait(state).expect("no thread panics while it holds the queue");
        }
    }
}

fn perform(job: &Job) -> Result<Yield, BlockError> {
    let (disk, order) = (&*job.disk, job.order);
    let range = ByteRange::new(order.offset, order.len);
    match order.kind {
        OrderKind::Read { .. } => {
            let mut bytes = vec![0; order.len as usize];
            disk.read_at(order.offset, &mut bytes)?;
            return Ok(Yield::Bytes(bytes));
        }
        OrderKind::BlockStatus { one } => {
            let limit = if one { 1 } else { MAX_EXTENTS };
            return Ok(Yield::Runs(runs(disk, range, limit)?));
        }
        OrderKind::Write { fua } => {
            disk.write_at(order.offset, &job.payload)?;
            flush_if(disk, fua)?;
        }
        OrderKind::Trim { fua } => {
            disk.trim(range)?;
            flush_if(disk, fua)?;
        }
        OrderKind::WriteZeroes { fua } => {
            disk.write_zeroes(range)?;
            flush_if(disk, fua)?;
        }
        OrderKind::Flush => disk.flush()?,
        OrderKind::Cache => disk.prefetch(range),
    }
    Ok(Yield::Nothing)
}

fn flush_if(disk: &dyn BlockIo, wanted: bool) -> Result<(), BlockError> {
    if wanted { disk.flush() } else { Ok(()) }
}

fn runs(disk: &dyn BlockIo, range: ByteRange, limit: usize) -> Result<Vec<StatusRun>, BlockError> {
    let extents = disk.extents(range, limit)?;
    Ok(extents.iter().map(|e| StatusRun { len: e.len, hole: e.kind == ExtentKind::Hole }).collect())
}
