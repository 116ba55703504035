//! Threads for what nobody waits for: they get what the others leave of the processors.
//!
//! Bulk keeps every core busy with hashes and ciphers; without this a device's request waits behind
//! it at each of the threads on its way, on both servers.

use std::io;
use tokio::runtime::{Builder, Runtime};

/// A tenth of the weight of a thread that a device waits for (sched(7), the nice value).
const NICE: i32 = 10;
/// Threads that drive connections; what blocks has its own.
const WORKERS: usize = 2;

/// A runtime whose threads all stand back.
pub(crate) fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(WORKERS).thread_name("mesh-behind").on_thread_start(stand_back);
    builder.enable_all().build()
}

/// Lets others go before this thread, from now on; on Linux `nice` is a thread's own.
pub(crate) fn stand_back() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "a thread of bulk replication runs like any other");
    }
}
