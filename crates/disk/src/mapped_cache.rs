//! The bound on how much of all files is mapped at once, so that resident memory has one too.
//!
//! The pages belong to the kernel's page cache in any case; what is bounded is what counts as
//! ours (RSS). The oldest span goes first: it comes back with a minor fault where it is in use.

use crate::residency::{Residency, SPAN};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

/// The mapped windows of all disks of a server.
#[derive(Debug)]
pub struct MappedCache {
    limit_spans: usize,
    spans: Mutex<VecDeque<(Weak<Residency>, u32)>>,
}

impl MappedCache {
    /// A window of at most `mapped_cache_bytes` over all files, in spans of 2 MiB and never less
    /// than 16 of them.
    pub fn new(mapped_cache_bytes: u64) -> Arc<Self> {
        let limit_spans = usize::try_from(mapped_cache_bytes / SPAN).unwrap_or(usize::MAX).max(16);
        Arc::new(Self { limit_spans, spans: Mutex::default() })
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
