//! Connections that others begin: peers, and servers that want to join.

use super::handshake::{self, HandshakeError, Stream};
use super::{Inner, LinkEvent};
use crate::join;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

/// Connections that have not shown yet who they are. More wait in the kernel.
const STRANGERS: usize = 64;

pub(super) async fn run(inner: Arc<Inner>, listener: TcpListener) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let Ok(place) = Arc::clone(&strangers).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = inner.stopped() => return,
        };
        match accepted {
            Ok((tcp, from)) => drop(tokio::spawn(take(Arc::clone(&inner), tcp, from, place))),
            // Out of files: those that close will make room.
            Err(_) => tokio::time::sleep(inner.options.retry.0).await,
        }
    }
}

async fn take(inner: Arc<Inner>, tcp: TcpStream, from: SocketAddr, _place: OwnedSemaphorePermit) {
    let mut who = from.to_string();
    let greeted = tokio::time::timeout(inner.options.handshake, welcome(&inner, tcp, from, &mut who)).await;
    if let Err(HandshakeError::Unwanted(reason)) = greeted.unwrap_or(Err(HandshakeError::Late)) {
        inner.say(LinkEvent::Refused { who, reason });
    }
}

async fn welcome(
    inner: &Arc<Inner>,
    tcp: TcpStream,
    from: SocketAddr,
    who: &mut String,
) -> Result<(), HandshakeError> {
    tcp.set_nodelay(true)?;
    let accepted = TlsAcceptor::from(Arc::clone(&inner.tls().server)).accept(tcp).await;
    let mut stream: Stream = match accepted {
        Ok(stream) => stream.into(),
        Err(error) => return Err(HandshakeError::Unwanted(error.to_string())),
    };
    let done = match handshake::known_peer(inner, &stream) {
        Ok(Some(peer)) => {
            *who = peer.name.to_string();
            handshake::be_greeted(inner, &mut stream, &peer).await.map(|greeted| Some((peer, greeted)))
        }
        Ok(None) => {
            join::serve(inner.desk.clone(), &mut stream, from).await.map(|()| None).map_err(Into::into)
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(Some((peer, (hello, received)))) => {
            handshake::start(inner, stream, received, peer, &hello);
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(HandshakeError::Unwanted(why)) => {
            // Whether it hears why is its own affair.
            let _ = handshake::refuse(&mut stream, &why).await;
            Err(HandshakeError::Unwanted(why))
        }
        Err(error) => Err(error),
    }
}
