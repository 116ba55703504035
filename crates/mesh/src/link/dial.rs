//! Connections that this server begins, one task for each peer and class.

use super::handshake::{self, HandshakeError};
use super::{Inner, LinkEvent, Peer};
use crate::identity::dns_name;
use model::Name;
use protocol::mesh::Class;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// A connection that lived for so long was a good one: the next is tried soon.
const GOOD: Duration = Duration::from_secs(10);

/// Follows the list of peers.
pub(super) async fn manage(inner: Arc<Inner>) {
    let mut peers = inner.peers.clone();
    loop {
        let now: Vec<Peer> = peers.borrow_and_update().clone();
        inner.table().close_unknown(&now);
        let me = inner.tls().me.name.clone();
        for peer in now.iter().filter(|peer| me < peer.name) {
            Class::ALL.iter().for_each(|class| begin(&inner, &peer.name, *class));
        }
        tokio::select! {
            changed = peers.changed() => if changed.is_err() {
                return inner.stopped().await;
            },
            () = inner.stopped() => return,
        }
    }
}

fn begin(inner: &Arc<Inner>, peer: &Name, class: Class) {
    if inner.table().dialled.insert((peer.clone(), class)) {
        tokio::spawn(keep_up(Arc::clone(inner), peer.clone(), class));
    }
}

async fn keep_up(inner: Arc<Inner>, name: Name, class: Class) {
    let (first, longest) = inner.options.retry;
    let mut wait = first;
    let mut told = String::new();
    while let Some(peer) = wanted(&inner, &name, class) {
        let began = Instant::now();
        let dialled = tokio::select! {
            dialled = tokio::time::timeout(inner.options.handshake, dial(&inner, &peer, class)) => dialled,
            () = inner.stopped() => return,
        };
        match dialled.unwrap_or(Err(HandshakeError::Late)) {
            Ok(connection) => {
                let _ = connection.await;
                told.clear();
            }
            Err(error) => tell_once(&inner, &name, class, &error, &mut told),
        }
        wait = if began.elapsed() > GOOD { first } else { (wait * 2).min(longest) };
        let mut peers = inner.peers.clone();
        peers.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(spread(wait)) => {}
            _ = peers.changed() => {}
            () = inner.stopped() => return,
        }
    }
}

/// The peer as the farm knows it now; none where it is gone, and then this task is not counted any
/// more: in one step, so that a peer that comes back gets a new one.
fn wanted(inner: &Inner, name: &Name, class: Class) -> Option<Peer> {
    let mut table = inner.table();
    let peer = inner.peer(name);
    if peer.is_none() {
        table.dialled.remove(&(name.clone(), class));
    }
    peer
}

async fn dial(inner: &Arc<Inner>, peer: &Peer, class: Class) -> Result<JoinHandle<()>, HandshakeError> {
    let tcp = TcpStream::connect(&peer.address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(dns_name(&peer.name)).map_err(std::io::Error::other)?;
    let connector = TlsConnector::from(Arc::clone(&inner.tls().client));
    let stream = connector.connect(name, tcp).await?.into();
    let shown = handshake::known_peer(inner, &stream)?;
    let shown = shown.ok_or_else(|| HandshakeError::Unwanted("it shows no certificate".into()))?;
    handshake::greet(inner, stream, shown, class).await
}

/// One word for each new reason, not for each try; the control connection speaks for all three.
fn tell_once(inner: &Inner, peer: &Name, class: Class, error: &HandshakeError, told: &mut String) {
    let reason = error.to_string();
    if class == Class::Control && *told != reason {
        inner.say(LinkEvent::Refused { who: peer.to_string(), reason: reason.clone() });
        *told = reason;
    }
}

/// Half to one and a half of it, so that servers that lost each other do not all come at once.
fn spread(wait: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness they come at once, and that is all.
    let _ = getrandom::fill(&mut random);
    wait / 2 + wait * u32::from(random[0]) / 255
}
