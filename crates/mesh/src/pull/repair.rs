//! Damaged chunks are fetched again from whoever has them.
//!
//! Nobody waits for them here: a device that reads one gets an error until it is mended (only what
//! is missing falls through). Each peer is asked in turn; what it sends is compared with the
//! manifest before it is written, and read back after.

use super::{Puller, Shared};
use model::{ChunkIndex, Name, Root};
use protocol::mesh::{Accept, Class, Encoding, Request, Response};
use std::collections::BTreeMap;
use store::Store;

/// Chunks in one request.
const REQUEST_CHUNKS: usize = 64;

/// A chunk that was damaged and is whole again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// A version that has it.
    pub root: Root,
    /// The chunk.
    pub chunk: ChunkIndex,
    /// Who had it.
    pub from: Name,
}

impl Puller {
    /// Asks the connected peers for the chunks that are damaged in a store; answers those that are
    /// whole again. Waits for the answers.
    pub fn repair(&self, store: &Store) -> Vec<Mended> {
        self.shared.repair(store)
    }
}

impl Shared {
    fn repair(&self, store: &Store) -> Vec<Mended> {
        let mut damaged: BTreeMap<Root, Vec<ChunkIndex>> = BTreeMap::new();
        for (root, chunk) in store.damaged() {
            damaged.entry(root).or_default().push(chunk);
        }
        let peers = self.peers().map(|peers| peers.connected()).unwrap_or_default();
        let mut mended = Vec::new();
        for (root, mut chunks) in damaged {
            for peer in &peers {
                for asked in chunks.clone().chunks(REQUEST_CHUNKS) {
                    mended.extend(self.repair_from(store, peer, root, asked));
                }
                chunks.retain(|chunk| !mended.iter().any(|m| m.root == root && m.chunk == *chunk));
                if chunks.is_empty() || self.state().stopped {
                    break;
                }
            }
        }
        mended
    }

    /// What one peer has of these chunks; silence and refusals are the same as nothing.
    fn repair_from(&self, store: &Store, peer: &Name, root: Root, chunks: &[ChunkIndex]) -> Vec<Mended> {
        let request = Request::GetChunks { root, accept: Accept::default(), chunks: chunks.to_vec() };
        let answer = self.peers().and_then(|peers| peers.request(peer, Class::Bulk, request).ok());
        let (mut mended, Some(answer)) = (Vec::new(), answer) else { return Vec::new() };
        while let Ok(part) = answer.recv_timeout(self.options.silence) {
            match part {
                Response::Chunk { index, encoding: Encoding::Raw, bytes } if chunks.contains(&index) => {
                    match store.mend(&root, index, &bytes) {
                        Ok(0) => {
                            self.observer.bad_peer(peer, root, "it sends other bytes for a damaged chunk")
                        }
                        Ok(_) => mended.push(Mended { root, chunk: index, from: peer.clone() }),
                        Err(error) => tracing::warn!(%root, chunk = index.0, %error, "a chunk is not mended"),
                    }
                }
                Response::NotHere { .. } => {}
                _ => break,
            }
        }
        mended
    }
}
