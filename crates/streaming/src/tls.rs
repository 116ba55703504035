//! TLS over a socket that does not block. A plain buffered path: encryption copies anyway.

use crate::outbox::{Outbox, Sent};
use disk::BlockIo;
use protocol::nbd::server::TlsOffer;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// How much is encrypted at once, in bytes: four records.
const PLAIN_BYTES: usize = 64 * 1024;

/// Whether devices speak TLS (NBD proto.md, "TLS support").
#[derive(Clone, Debug, Default)]
pub enum TlsPolicy {
    /// Never.
    #[default]
    Off,
    /// Those that ask for it.
    Optional(Arc<ServerConfig>),
    /// All of them: nothing is told or opened before.
    Required(Arc<ServerConfig>),
}

impl TlsPolicy {
    pub(crate) fn offer(&self) -> TlsOffer {
        match self {
            Self::Off => TlsOffer::Unavailable,
            Self::Optional(_) => TlsOffer::Offered,
            Self::Required(_) => TlsOffer::Required,
        }
    }

    pub(crate) fn begin(&self) -> Option<TlsStream> {
        match self {
            Self::Off => None,
            Self::Optional(config) | Self::Required(config) => TlsStream::new(config),
        }
    }
}

/// The TLS state of one connection.
#[derive(Debug)]
pub(crate) struct TlsStream {
    connection: ServerConnection,
    plain: Vec<u8>,
}

struct Socket<'a>(BorrowedFd<'a>);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, buffer, RecvFlags::DONTWAIT)?.1)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    fn new(config: &Arc<ServerConfig>) -> Option<Self> {
        let mut connection = ServerConnection::new(Arc::clone(config)).ok()?;
        connection.set_buffer_limit(Some(2 * PLAIN_BYTES));
        Some(Self { connection, plain: Vec::new() })
    }

    /// Reads decrypted bytes; 0 at the end, `WouldBlock` where there are none yet.
    pub(crate) fn read(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.connection.read_tls(&mut Socket(socket))? == 0 {
                return Ok(0);
            }
            let processed = self.connection.process_new_packets();
            // An alert tells the client what was wrong, also where we end the connection.
            let written = self.write_pending(socket);
            processed.map_err(io::Error::other)?;
            match written {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }

    /// Whether encrypted bytes are waiting for the socket.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Encrypts and sends until nothing is left or the socket is full.
    pub(crate) fn send(
        &mut self,
        outbox: &mut Outbox,
        socket: BorrowedFd<'_>,
        disk: Option<&dyn BlockIo>,
    ) -> Sent {
        loop {
            match self.write_pending(socket) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
                Err(_) => return Sent::Broken,
            }
            if outbox.is_empty() {
                return Sent::All;
            }
            let read = |offset, buffer: &mut [u8]| disk.is_some_and(|d| d.read_at(offset, buffer).is_ok());
            let copied = outbox.copy_out(PLAIN_BYTES, &mut self.plain, read);
            if !copied || self.connection.writer().write_all(&self.plain).is_err() {
                return Sent::Broken;
            }
        }
    }

    fn write_pending(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut Socket(socket))?;
        }
        Ok(())
    }
}
