//! The bound on how much of all files is mapped at once, so that resident memory has one too.
//!
//! The pages belong to the kernel's page cache in any case; what is bounded is what counts as
//! ours (RSS). The oldest span goes first: it comes back with a minor fault where it is in use.
//! A file is mapped once, however many disks read it: the versions of a vDisk share their layers,
//! and an address space has room for 128 TiB.

use crate::mapping::FileMapping;
use crate::residency::{Residency, SPAN};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, Weak};

/// The mapped windows of all disks of a server.
#[derive(Debug)]
pub struct MappedCache {
    limit_spans: usize,
    spans: Mutex<VecDeque<(Weak<Residency>, u32)>>,
    /// By device and inode, which nobody reuses while the file is mapped.
    mappings: Mutex<HashMap<(u64, u64), Weak<FileMapping>>>,
}

impl MappedCache {
    /// A window of at most `mapped_cache_bytes` over all files, in spans of 2 MiB and never less
    /// than 16 of them.
    pub fn new(mapped_cache_bytes: u64) -> Arc<Self> {
        let limit_spans = usize::try_from(mapped_cache_bytes / SPAN).unwrap_or(usize::MAX).max(16);
        Arc::new(Self { limit_spans, spans: Mutex::default(), mappings: Mutex::default() })
    }

    /// The mapping of the first `len` bytes of `file`.
    pub(crate) fn mapping(&self, file: &File, len: u64) -> io::Result<Arc<FileMapping>> {
        let metadata = file.metadata()?;
        let mut mappings = self.mappings.lock().expect("no thread panics while it holds the mappings");
        let of_file = (metadata.dev(), metadata.ino());
        let known = mappings.get(&of_file).and_then(Weak::upgrade);
        if let Some(mapping) = known.filter(|mapping| mapping.len() == len) {
            return Ok(mapping);
        }
        let mapping = Arc::new(FileMapping::new(file, len)?);
        mappings.retain(|_, mapping| mapping.strong_count() > 0);
        mappings.insert(of_file, Arc::downgrade(&mapping));
        Ok(mapping)
    }

    /// Counts a span that is about to be used, and lets go of the oldest ones above the limit.
    pub(crate) fn entered(&self, residency: Weak<Residency>, span: u32) {
        let mut spans = self.spans.lock().expect("no thread panics while it holds the window");
        spans.push_back((residency, span));
        if spans.len() <= self.limit_spans {
            return;
        }
        let oldest = spans.pop_front();
        drop(spans);
        if let Some((residency, span)) = oldest
            && let Some(residency) = residency.upgrade()
        {
            residency.forget(span);
        }
    }
}
