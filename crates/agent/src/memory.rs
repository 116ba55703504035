//! What keeps the agent alive and quick when the device is short of memory.
//!
//! The kernel writes pages out through this process to get memory: so the process must not wait
//! for that very memory. The only module with `unsafe` code.

use crate::console;
use rustix::mm::{MlockAllFlags, mlockall};
use std::fs;

/// Locks what is touched, tells the kernel that this process serves a disk, and keeps the
/// out-of-memory killer away. What does not work is said and done without.
pub(crate) fn prepare_for_pressure() {
    keep_freed_memory_small();
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    let steps = [
        ("lock its memory", mlockall(flags).map_err(Into::into)),
        ("become an I/O flusher", rustix::process::configure_io_flusher_behavior(true).map_err(Into::into)),
        ("leave the OOM killer's list", fs::write("/proc/self/oom_score_adj", "-1000")),
    ];
    for (what, outcome) in steps {
        if let Err(error) = outcome {
            console::problem(format!("the agent cannot {what}: {error}"));
        }
    }
}

/// Makes the C library map every slab of the write cache by itself, so that memory which the
/// cache lets go of is the device's again; without a fixed threshold it would raise it to 32 MiB
/// after the first slab was freed. Two heaps are enough for a few threads that rarely allocate.
#[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
fn keep_freed_memory_small() {
    const MAP_FROM_BYTES: libc::c_int = 256 * 1024;
    // SAFETY: mallopt only stores the numbers, and no other thread of this process runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_FROM_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
