//! A copy of a draft on a unix socket, writable, for one program.

use super::copy_disk::CopyDisk;
use crate::serve::sessions::Token;
use disk::BlockIo;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use streaming::{
    Export, ExportDirectory, ExportRefusal, Listener, NbdOptions, NbdServer, Peer, SessionTotals, StartError,
};

/// Connections of one program: libnbd's multi-conn uses up to 16, and several tools may be at work.
const MAX_CONNECTIONS: usize = 64;
/// How long requests may take to be answered when the program has ended; the disk is closed then.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// An NBD server for one disk; ends when it is dropped.
pub(super) struct Served {
    server: Option<NbdServer>,
    uri: String,
}

impl Served {
    /// Serves `copy` at a socket in `directory`, which only the server's user may enter.
    pub(super) fn start(copy: &Arc<CopyDisk>, directory: &Path) -> io::Result<Self> {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
        let socket = directory.join("nbd.sock");
        let listener = UnixListener::bind(&socket)?;
        let token = Token::random();
        let uri = format!("nbd+unix:///{}?socket={}", token.as_str(), socket.display());
        let options = NbdOptions {
            workers: 1,
            pool_threads: 4,
            max_connections: MAX_CONNECTIONS,
            ..NbdOptions::new(vec![Listener::Unix(listener)])
        };
        let only = Arc::new(Only { token, disk: Arc::clone(copy) as Arc<dyn BlockIo> });
        let server = NbdServer::start(options, only).map_err(|error| match error {
            StartError::System(error) => error,
            StartError::NoListener => io::Error::other(error),
        })?;
        Ok(Self { server: Some(server), uri })
    }

    /// What `guestfish`, `nbdcopy`, `qemu-nbd` and their like take.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(STOP_PATIENCE);
        }
    }
}

/// The one export.
struct Only {
    token: Token,
    disk: Arc<dyn BlockIo>,
}

impl ExportDirectory for Only {
    fn open(&self, name: &str, _: Peer) -> Result<Export, ExportRefusal> {
        if name != self.token.as_str() {
            return Err(ExportRefusal::Unknown);
        }
        let description = "a draft's copy, for a hook".to_owned();
        Ok(Export { disk: Arc::clone(&self.disk), description, max_connections: MAX_CONNECTIONS })
    }

    fn closed(&self, _: &str, _: Peer, totals: &SessionTotals) {
        tracing::debug!(
            requests = totals.requests,
            written = totals.written_bytes,
            "a hook's connection ended"
        );
    }
}
