//! Who is at the other end: its certificate, the farm's records, its hello.

use super::connection::{self, Connection, Ended};
use super::{Inner, LinkEvent, Peer};
use crate::identity::PeerIdentity;
use bytes::BytesMut;
use protocol::mesh::{Class, Frame, Hello, REVISION, Refused, Response, decode};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_rustls::TlsStream;

/// What a refused end may have said before it reads that it is refused, in bytes.
const MAX_UNREAD: usize = 64 * 1024;

pub(super) type Stream = TlsStream<TcpStream>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The network or TLS.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("it did not answer in time")]
    Late,
    /// We do not want it.
    #[error("{0}")]
    Unwanted(String),
    /// It does not want us.
    #[error("it refuses this server: {0}")]
    Refused(String),
    /// What it sent makes no sense.
    #[error("{0}")]
    Rubbish(#[from] Ended),
}

/// What the certificate of the other end says, where the farm knows it.
pub(super) fn known_peer(inner: &Inner, stream: &Stream) -> Result<Option<PeerIdentity>, HandshakeError> {
    let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() else { return Ok(None) };
    let unwanted = |why: String| HandshakeError::Unwanted(why);
    let shown = PeerIdentity::of(certificate).map_err(|error| unwanted(error.to_string()))?;
    let Some(Peer { serials, .. }) = inner.peer(&shown.name) else {
        return Err(unwanted(format!("the farm has no server {:?}, or has removed it", shown.name.as_str())));
    };
    if !serials.contains(&shown.serial) {
        let name = shown.name.as_str();
        return Err(unwanted(format!("the certificate of {name:?} is not the one that the farm knows")));
    }
    Ok(Some(shown))
}

/// Says hello and hears one, as the end that dialled.
pub(super) async fn greet(
    inner: &Arc<Inner>,
    mut stream: Stream,
    peer: PeerIdentity,
    class: Class,
) -> Result<JoinHandle<()>, HandshakeError> {
    let mut received = BytesMut::new();
    send(&mut stream, &Frame::Hello(own_hello(inner, class))).await?;
    let hello = receive(inner, &mut stream, &mut received, &peer, class).await?;
    if hello.class != class {
        return Err(Ended::Misplaced("a hello for another class").into());
    }
    Ok(start(inner, stream, received, peer, &hello))
}

/// Hears a hello and says one, as the end that accepted.
pub(super) async fn be_greeted(
    inner: &Arc<Inner>,
    stream: &mut Stream,
    peer: &PeerIdentity,
) -> Result<(Hello, BytesMut), HandshakeError> {
    let mut received = BytesMut::new();
    let hello = receive(inner, stream, &mut received, peer, Class::Control).await?;
    send(stream, &Frame::Hello(own_hello(inner, hello.class))).await?;
    Ok((hello, received))
}

/// Starts the connection that both ends agree on.
pub(super) fn start(
    inner: &Arc<Inner>,
    stream: Stream,
    received: BytesMut,
    peer: PeerIdentity,
    hello: &Hello,
) -> JoinHandle<()> {
    let mut table = inner.table();
    let (connection, outgoing) = Connection::new(table.next_id(), peer.name, peer.serial, hello.class);
    table.put(&connection, hello.incarnation);
    // It may have been removed, or the links dropped, since it was looked at.
    table.close_unknown(&inner.peers.borrow());
    if *inner.stop.borrow() {
        connection.close();
    }
    drop(table);
    let runtime = if hello.class == Class::Bulk { inner.background.clone() } else { Handle::current() };
    runtime.spawn(connection::run(Arc::clone(inner), connection, outgoing, stream, received))
}

fn own_hello(inner: &Inner, class: Class) -> Hello {
    Hello::new(inner.options.farm, inner.tls().me.name.clone(), inner.options.incarnation, class)
}

async fn receive(
    inner: &Inner,
    stream: &mut Stream,
    received: &mut BytesMut,
    peer: &PeerIdentity,
    class: Class,
) -> Result<Hello, HandshakeError> {
    let checked = match frame(stream, received).await {
        Ok(Frame::Hello(hello)) => check(inner, peer, hello),
        Ok(Frame::Response { id: 0, response: Response::Refused(why) }) => {
            return Err(HandshakeError::Refused(why.text().to_owned()));
        }
        Ok(_) => Err(Ended::Misplaced("something else than a hello").into()),
        Err(error) => Err(error),
    };
    if let Err(HandshakeError::Rubbish(ended @ (Ended::Frame(_) | Ended::Misplaced(_)))) = &checked {
        inner.say(LinkEvent::Rubbish { peer: peer.name.clone(), class, reason: ended.to_string() });
    }
    checked
}

fn check(inner: &Inner, peer: &PeerIdentity, hello: Hello) -> Result<Hello, HandshakeError> {
    let unwanted = |why: String| Err(HandshakeError::Unwanted(why));
    if hello.revision != REVISION {
        let theirs = hello.revision;
        return unwanted(format!(
            "it speaks revision {theirs}, this server {REVISION}; run the same headwater"
        ));
    }
    if hello.farm != inner.options.farm {
        return unwanted(format!("it belongs to the farm {}", hello.farm));
    }
    if hello.server != peer.name {
        let (told, shown) = (hello.server, &peer.name);
        return unwanted(format!("it calls itself {told:?} with the certificate of {shown:?}"));
    }
    let known = inner.table().incarnation(&peer.serial);
    if hello.incarnation < known {
        let theirs = hello.incarnation;
        return unwanted(format!(
            "it has started {theirs} times, and was seen with {known}: its state was restored from an older copy"
        ));
    }
    Ok(hello)
}

/// Reads one frame; where more was received, it stays in `received`.
async fn frame(stream: &mut Stream, received: &mut BytesMut) -> Result<Frame, HandshakeError> {
    loop {
        if let Some(frame) = decode(received).map_err(Ended::from)? {
            return Ok(frame);
        }
        if stream.read_buf(received).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}

async fn send(stream: &mut Stream, frame: &Frame) -> Result<(), HandshakeError> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

/// Tells the other end why it is not wanted.
pub(super) async fn refuse(stream: &mut Stream, why: &str) -> Result<(), HandshakeError> {
    let response = Response::Refused(Refused::new(why));
    send(stream, &Frame::Response { id: 0, response }).await?;
    stream.shutdown().await?;
    // Closed with something unread, the kernel would throw away what was sent.
    let mut unread = [0; 1024];
    for _ in 0..MAX_UNREAD / unread.len() {
        if stream.read(&mut unread).await? == 0 {
            break;
        }
    }
    Ok(())
}
