//! Where the chunks come from that a version here does not have yet.
//!
//! The disk asks and waits; who answers it (the mesh, in a server) fetches from peers, verifies
//! and stores. The disk then reads what is stored: bytes never come through here.

use model::{ChunkIndex, Root};

/// Brings chunks into the store of a version that is here in part.
pub trait ChunkSource: Send + Sync {
    /// Waits until the version can be opened in its store here, however little of it has come, or
    /// there is no hope of it.
    fn open(&self, root: Root) -> Result<(), FetchError>;

    /// Waits until the chunks are here and can be read, or there is no hope of it: the
    /// source has a patience of its own, which its documentation states. Several threads may wait
    /// for the same chunks.
    fn fetch(&self, root: Root, chunks: &[ChunkIndex]) -> Result<(), FetchError>;

    /// Says that the chunks will probably be read soon; returns at once and may do nothing.
    fn expect(&self, root: Root, chunks: &[ChunkIndex]);
}

/// Why chunks did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No server that has them could be reached in time.
    #[error("no server that has chunk {chunk} could be reached for {waited_s} s")]
    NoSource {
        /// The first of them.
        chunk: u32,
        /// How long was waited, in seconds.
        waited_s: u64,
    },
    /// No server that has the version could be reached in time.
    #[error("no server that has the version could be reached for {waited_s} s")]
    NoManifest {
        /// How long was waited, in seconds.
        waited_s: u64,
    },
    /// There is no room here to store them.
    #[error("the store has no room for chunk {chunk}")]
    NoRoom {
        /// The first of them.
        chunk: u32,
    },
    /// The version is not received any more, or its files cannot be written.
    #[error("{0}")]
    Failed(String),
}
