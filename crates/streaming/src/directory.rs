//! What the server asks of whoever knows the farm: which disk a name stands for.

use disk::BlockIo;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Knows the exports. Its calls come from the threads that serve devices: they must not block.
pub trait ExportDirectory: Send + Sync {
    /// The disk behind `name`, for a client at `peer`.
    ///
    /// Called when a client asks about an export and when it opens one; a session has begun only
    /// when [`ExportDirectory::closed`] is called for it later.
    fn open(&self, name: &str, peer: Peer) -> Result<Export, ExportRefusal>;

    /// A session has ended.
    fn closed(&self, name: &str, peer: Peer, totals: &SessionTotals);
}

/// One disk as it is offered to one client.
#[derive(Clone)]
pub struct Export {
    /// The disk.
    pub disk: Arc<dyn BlockIo>,
    /// A text for people; at most 4,096 bytes of it are sent.
    pub description: String,
    /// How many connections may have this name open at once.
    pub max_connections: usize,
}

/// Why a name is not opened. The client learns no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportRefusal {
    /// There is no such export.
    Unknown,
    /// There is, but not for this client or not now.
    Forbidden,
    /// The server stops.
    Stopping,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Over TCP.
    Network(SocketAddr),
    /// Over a unix socket.
    Local,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Local => f.write_str("local"),
        }
    }
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTotals {
    /// Requests that were answered, errors included.
    pub requests: u64,
    /// Bytes of the disk that were sent.
    pub read_bytes: u64,
    /// Bytes that were written to the disk.
    pub written_bytes: u64,
    /// Requests that were answered with an error.
    pub errors: u64,
    /// Reads that had to wait for a disk.
    pub misses: u64,
}
