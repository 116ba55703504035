//! One connection, from the address to an open export of the right size.

use super::RemoteTarget;
use disk::Access;
use protocol::nbd::client::{Handshake, HandshakeError, ReplyForm, Step, Wishes};
use protocol::nbd::wire::{option_reply, transmission_flag};
use protocol::plan::StreamServer;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The bytes that a handshake may bring before we call it off: a few strings of 4 KiB.
const MAX_HANDSHAKE_BYTES: usize = 64 * 1024;
/// Keepalive finds a dead idle path after 1 s + 3 x 1 s (measured: 4 s).
const KEEPALIVE: Duration = Duration::from_secs(1);
const KEEPALIVE_PROBES: u32 = 3;

/// An open export.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) form: ReplyForm,
    /// Bytes of replies that came with the end of the handshake.
    pub(super) early: Vec<u8>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0:?} is not ADDRESS:PORT")]
    Address(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("the handshake took too long")]
    TooLong,
    #[error("the server closed the connection in the handshake")]
    Closed,
    #[error("its disk has {found} bytes instead of {expected}")]
    WrongSize { expected: u64, found: u64 },
    #[error("it lets nobody write to this disk")]
    ReadOnly,
}

impl ConnectError {
    /// Whether the server answered, and said that this session is not or no longer for us.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Handshake(HandshakeError::Unknown(_)) | Self::ReadOnly => true,
            Self::Handshake(HandshakeError::Refused { kind, .. }) => *kind != SERVER_STOPS,
            _ => false,
        }
    }
}

/// The kind of refusal that passes.
const SERVER_STOPS: u32 = option_reply::ERR_SHUTDOWN & !option_reply::ERROR_BIT;

/// Connects to one server within the target's patience.
pub(super) fn connect(target: &RemoteTarget, server: &StreamServer) -> Result<Connection, ConnectError> {
    let address: SocketAddr =
        server.nbd.parse().map_err(|_| ConnectError::Address(server.nbd.chars().take(80).collect()))?;
    let deadline = Instant::now() + target.patience.connect;
    let stream = TcpStream::connect_timeout(&address, target.patience.connect)?;
    set_options(&stream)?;
    let connection = shake_hands(target, stream, deadline)?;
    connection.stream.set_write_timeout(Some(match target.access {
        Access::ReadOnly => target.patience.connect,
        Access::ReadWrite => target.patience.stall, // a server that is busy writing takes no more
    }))?;
    Ok(connection)
}

fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

fn shake_hands(
    target: &RemoteTarget,
    mut stream: TcpStream,
    deadline: Instant,
) -> Result<Connection, ConnectError> {
    let wishes = Wishes { structured_replies: true, block_status: false };
    let mut handshake = Handshake::new(&target.export, wishes);
    let (mut input, mut output) = (Vec::new(), Vec::new());
    loop {
        let step = handshake.receive(&input, &mut output)?;
        stream.write_all(&std::mem::take(&mut output))?;
        match step {
            Step::NeedMore { consumed } => drop(input.drain(..consumed)),
            Step::Open { consumed, export } => {
                check_size(target, export.size_bytes)?;
                if target.access == Access::ReadWrite && export.flags & transmission_flag::READ_ONLY != 0 {
                    return Err(ConnectError::ReadOnly);
                }
                let form = if export.structured_replies { ReplyForm::Structured } else { ReplyForm::Simple };
                return Ok(Connection { stream, form, early: input.split_off(consumed) });
            }
        }
        read_more(&mut stream, &mut input, deadline)?;
    }
}

fn check_size(target: &RemoteTarget, found: u64) -> Result<(), ConnectError> {
    let expected = target.size.bytes();
    if found == expected { Ok(()) } else { Err(ConnectError::WrongSize { expected, found }) }
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>, deadline: Instant) -> Result<(), ConnectError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() || input.len() > MAX_HANDSHAKE_BYTES {
        return Err(ConnectError::TooLong);
    }
    stream.set_read_timeout(Some(left))?;
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => Err(ConnectError::Closed),
        Ok(len) => {
            input.extend_from_slice(&buffer[..len]);
            Ok(())
        }
        Err(error) if is_timeout(&error) => Err(ConnectError::TooLong),
        Err(error) => Err(error.into()),
    }
}

/// Whether a socket's time-out ended a call.
pub(super) fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
