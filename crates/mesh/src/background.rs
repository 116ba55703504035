//! Threads for what nobody waits for: they get what the others leave of the processors and disks.
//!
//! Bulk keeps every core busy with hashes and ciphers, and the disks' queues full; without this a
//! device's request waits behind it at each step of its way, on both servers.

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

/// Lets others go before this thread, from now on; on Linux `nice` is a thread's own, and so is the
/// class of its reads and writes. Disks whose scheduler knows no classes go on as before.
pub(crate) fn stand_back() {
    if let Err(error) = idle_io() {
        tracing::debug!(%error, "the disks serve a thread of bulk replication like any other");
    }
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "a thread of bulk replication runs like any other");
    }
}

/// The idle class of ioprio_set(2): served when nobody else has asked, or after 10 s (mq-deadline).
#[expect(unsafe_code, reason = "ioprio_set has no safe wrapper")]
fn idle_io() -> io::Result<()> {
    /// `IOPRIO_WHO_PROCESS` with 0: the calling thread.
    const THREAD: (libc::c_long, libc::c_long) = (1, 0);
    /// `IOPRIO_CLASS_IDLE`, shifted by `IOPRIO_CLASS_SHIFT`.
    const IDLE: libc::c_long = 3 << 13;
    // SAFETY: takes three numbers and touches no memory.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, THREAD.0, THREAD.1, IDLE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_stand_back_at_the_disks() {
        std::thread::spawn(|| idle_io().unwrap()).join().unwrap();
    }
}
