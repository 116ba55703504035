//! The disk as the device sees it: a write cache over the servers' content, or a draft on a
//! server, and what is counted.

use crate::remote::{LinkStatus, RemoteDisk};
use disk::{CacheFill, RamCache};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The device's disk.
pub(crate) struct DeviceDisk {
    /// Where its bytes are.
    pub(crate) kind: DiskKind,
    first_read: AtomicBool,
}

/// Where a device's bytes are.
pub(crate) enum DiskKind {
    /// Writes in memory, over the servers' content.
    Cached(Arc<RamCache<RemoteDisk>>),
    /// Everything on the server.
    Draft(RemoteDisk),
}

impl DeviceDisk {
    /// An empty write cache of at most `limit_bytes` over `remote`.
    pub(crate) fn cached(remote: RemoteDisk, limit_bytes: u64) -> Self {
        Self::new(DiskKind::Cached(Arc::new(RamCache::new(remote, limit_bytes))))
    }

    /// The draft at the end of `remote`.
    pub(crate) fn draft(remote: RemoteDisk) -> Self {
        Self::new(DiskKind::Draft(remote))
    }

    fn new(kind: DiskKind) -> Self {
        Self { kind, first_read: AtomicBool::new(false) }
    }

    /// The link to the servers.
    pub(crate) fn remote(&self) -> &RemoteDisk {
        match &self.kind {
            DiskKind::Cached(cache) => cache.parent(),
            DiskKind::Draft(remote) => remote,
        }
    }

    /// Notes that the device has read.
    pub(crate) fn note_read(&self) {
        if !self.first_read.load(Ordering::Relaxed) {
            self.first_read.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the device has read anything yet.
    pub(crate) fn was_read(&self) -> bool {
        self.first_read.load(Ordering::Relaxed)
    }

    /// How full the write cache is; of a draft only what was written.
    pub(crate) fn fill(&self) -> CacheFill {
        match &self.kind {
            DiskKind::Cached(cache) => cache.fill(),
            DiskKind::Draft(remote) => {
                CacheFill { written_bytes: remote.status().written_bytes, ..CacheFill::default() }
            }
        }
    }

    /// What the link to the servers is doing.
    pub(crate) fn link(&self) -> LinkStatus {
        self.remote().status()
    }
}
