//! What this server's stores have, told and given to peers.
//!
//! Chunks are read past the page cache and compared with the manifest before they leave
//! (`store::StoredVersion::chunk_for_peer`): a peer is never sent what is damaged here.

use crate::encoding;
use bytes::Bytes;
use model::{ChunkIndex, PageHash, Root};
use protocol::mesh::{Accept, Have, MAX_PIECE_BYTES, Possession, Refused, Request, Response};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use store::{Store, StoredVersion};

/// How long a version stays open after a request, so that the next one finds it open.
const KEPT_OPEN: Duration = Duration::from_secs(5);

/// The stores of this server, as peers see them.
pub struct Shares {
    stores: Vec<Arc<Store>>,
    open: Mutex<HashMap<Root, (Arc<StoredVersion>, Instant)>>,
    sequence: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Shares {
    /// Shows these stores.
    pub fn new(stores: Vec<Arc<Store>>) -> Self {
        Self { stores, open: Mutex::default(), sequence: AtomicU64::new(0), sent_bytes: AtomicU64::new(0) }
    }

    /// The roots that are here whole.
    pub fn whole(&self) -> Vec<Root> {
        self.stores.iter().flat_map(|store| store.whole()).collect()
    }

    /// All that is here.
    pub fn possession(&self) -> Vec<Have> {
        let mut all: Vec<Have> = self.whole().into_iter().map(|root| self.complete(root)).collect();
        for store in &self.stores {
            let half = store.receiving().into_iter().filter_map(|root| store.version(&root).ok());
            all.extend(half.flat_map(|version| self.part(&version)));
        }
        all
    }

    /// Bytes of chunks that were given to peers, as they travelled.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Says that a root is here whole.
    pub fn complete(&self, root: Root) -> Have {
        self.have(root, Possession::Complete)
    }

    /// Says what is here of a version, in pieces.
    pub fn part(&self, version: &StoredVersion) -> Vec<Have> {
        let bits = Bytes::from(version.possession());
        let piece = |at: usize| {
            let bits = bits.slice(at..bits.len().min(at + MAX_PIECE_BYTES));
            self.have(version.root(), Possession::Part { first: ChunkIndex(at as u32 * 8), bits })
        };
        (0..bits.len()).step_by(MAX_PIECE_BYTES).map(piece).collect()
    }

    /// Says that nothing of a root is here any more.
    pub fn gone(&self, root: Root) -> Have {
        self.have(root, Possession::Gone)
    }

    fn have(&self, root: Root, possession: Possession) -> Have {
        Have { root, sequence: self.sequence.fetch_add(1, Ordering::Relaxed), possession }
    }

    /// Closes what nobody has asked for lately, so that it can be pruned. To be called now and then.
    pub fn close_idle(&self) {
        let mut open = self.open.lock().expect("no thread panics while it holds the open versions");
        open.retain(|_, (_, used)| used.elapsed() < KEPT_OPEN);
    }

    /// Answers a request; `send` says false where nobody wants the rest.
    pub fn answer(&self, request: &Request, send: &mut dyn FnMut(Response) -> bool) {
        let wanted = match request {
            Request::GetManifest { root } => self.send_manifest(*root, send),
            Request::GetPages { names } => self.send_pages(names, send),
            Request::GetChunks { root, accept, chunks } => self.send_chunks(*root, *accept, chunks, send),
            // Whoever can tell answers before it comes here.
            Request::GetStatus => {
                send(Response::Refused(Refused::new("nobody here tells how the server is")));
                false
            }
        };
        if wanted {
            send(Response::Done);
        }
    }

    fn send_manifest(&self, root: Root, send: &mut dyn FnMut(Response) -> bool) -> bool {
        let Some(version) = self.version(root) else {
            return send(Response::NotHere { chunks: Vec::new() });
        };
        let manifest = Bytes::from(version.manifest().encode());
        let mut pieces = (0..manifest.len()).step_by(MAX_PIECE_BYTES);
        pieces
            .all(|at| send(Response::Manifest(manifest.slice(at..manifest.len().min(at + MAX_PIECE_BYTES)))))
    }

    fn send_pages(&self, names: &[PageHash], send: &mut dyn FnMut(Response) -> bool) -> bool {
        let pages = self.stores.iter().flat_map(|store| store.pages_named(names));
        let pages = pages.map(|(name, page)| Response::Page { name, bytes: page.encode().into() });
        pages.into_iter().all(send)
    }

    fn send_chunks(
        &self,
        root: Root,
        accept: Accept,
        chunks: &[ChunkIndex],
        send: &mut dyn FnMut(Response) -> bool,
    ) -> bool {
        let Some(version) = self.version(root) else {
            return send(Response::NotHere { chunks: Vec::new() });
        };
        // A parent that is not here is no reason to refuse: the chunks travel without it.
        let parent = accept.delta.and_then(|root| self.version(root));
        let mut not_here = Vec::new();
        for chunk in chunks.iter().copied() {
            if chunk.0 >= version.size().chunk_count() {
                send(Response::Refused(Refused::new("the disk has no such chunk")));
                return false;
            }
            let sent = match version.chunk_for_peer(chunk) {
                Ok(bytes) => {
                    let of_parent = |_| parent.as_ref().and_then(|parent| chunk_of(parent, chunk));
                    let (encoding, bytes) = encoding::pack(bytes, accept, of_parent);
                    self.sent_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    send(Response::Chunk { index: chunk, encoding, bytes })
                }
                Err(error) => {
                    tracing::debug!(%root, %error, "a peer asks for a chunk that is not to be had here");
                    not_here.push(chunk);
                    true
                }
            };
            if !sent {
                return false;
            }
        }
        not_here.is_empty() || send(Response::NotHere { chunks: not_here })
    }

    fn version(&self, root: Root) -> Option<Arc<StoredVersion>> {
        let mut open = self.open.lock().expect("no thread panics while it holds the open versions");
        if let Some((version, used)) = open.get_mut(&root) {
            *used = Instant::now();
            return Some(Arc::clone(version));
        }
        let version = self.stores.iter().find_map(|store| store.version(&root).ok())?;
        open.insert(root, (Arc::clone(&version), Instant::now()));
        Some(version)
    }
}

/// A verified chunk of a version, where it is here.
pub(crate) fn chunk_of(version: &StoredVersion, chunk: ChunkIndex) -> Option<Vec<u8>> {
    let inside = chunk.0 < version.size().chunk_count();
    inside.then(|| version.chunk_for_peer(chunk).ok()).flatten()
}
