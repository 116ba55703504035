//! Threads for the changes that must first read from a server: writes of less than a block.

use super::Replies;
use super::orders::number_of;
use crate::remote::RemoteDisk;
use disk::{BlockError, BlockIo, RamCache};
use model::ByteRange;
use protocol::nbd::server::ReplyTo;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// File systems write whole blocks; what is left for the pool is rare.
const THREADS: usize = 4;
/// The kernel's driver has 128 requests in flight at most, so this queue is never full for it.
const QUEUE: usize = 128;

/// A change of the disk.
pub(super) enum Job {
    /// Stores bytes at an offset.
    Write(u64, Vec<u8>),
    /// Lets go of a range.
    Trim(ByteRange),
    /// Zeroes a range.
    WriteZeroes(ByteRange),
}

impl Job {
    /// The range that the job changes.
    pub(super) fn range(&self) -> ByteRange {
        match self {
            Self::Write(offset, data) => ByteRange::new(*offset, data.len() as u64),
            Self::Trim(range) | Self::WriteZeroes(range) => *range,
        }
    }

    /// Changes the disk.
    pub(super) fn run(&self, disk: &RamCache<RemoteDisk>) -> Result<(), BlockError> {
        match self {
            Self::Write(offset, data) => disk.write_at(*offset, data),
            Self::Trim(range) => disk.trim(*range),
            Self::WriteZeroes(range) => disk.write_zeroes(*range),
        }
    }
}

type Queue = Arc<Mutex<Receiver<(ReplyTo, Job)>>>;

/// The threads of one session; they end with it.
pub(super) struct Pool {
    jobs: SyncSender<(ReplyTo, Job)>,
}

impl Pool {
    pub(super) fn start(cache: &Arc<RamCache<RemoteDisk>>, replies: &Replies) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue: Queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let (cache, replies, queue) = (Arc::clone(cache), replies.clone(), Arc::clone(&queue));
            let thread = std::thread::Builder::new().name("merge".into());
            thread.spawn(move || work(&cache, &replies, &queue))?;
        }
        Ok(Self { jobs })
    }

    /// Queues a job; waits where the queue is full.
    pub(super) fn add(&self, to: ReplyTo, job: Job) {
        self.jobs.send((to, job)).expect("the threads live as long as the pool");
    }
}

fn work(cache: &RamCache<RemoteDisk>, replies: &Replies, queue: &Queue) {
    loop {
        let next = queue.lock().expect("no holder of the lock panics").recv();
        let Ok((to, job)) = next else { return };
        replies.send(to, job.run(cache).map_err(|error| number_of(&error)));
    }
}
