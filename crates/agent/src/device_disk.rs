//! The disk as the device sees it: the write cache over the servers' content, and what is counted.

use crate::remote::{LinkStatus, RemoteDisk};
use disk::{CacheFill, RamCache};
use std::sync::atomic::{AtomicBool, Ordering};

/// The device's disk.
pub(crate) struct DeviceDisk {
    /// The writes, over the servers' content.
    pub(crate) cache: RamCache<RemoteDisk>,
    first_read: AtomicBool,
}

impl DeviceDisk {
    /// An empty write cache of at most `limit_bytes` over `remote`.
    pub(crate) fn new(remote: RemoteDisk, limit_bytes: u64) -> Self {
        Self { cache: RamCache::new(remote, limit_bytes), first_read: AtomicBool::new(false) }
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

    /// How full the cache is.
    pub(crate) fn fill(&self) -> CacheFill {
        self.cache.fill()
    }

    /// What the link to the servers is doing.
    pub(crate) fn link(&self) -> LinkStatus {
        self.cache.parent().status()
    }
}
