//! What peers said they have, handed to the handler by one thread: in order, and where it may block.

use crate::peers::PeerHandler;
use model::Name;
use protocol::mesh::Have;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// By eye: the bitmaps of some hundred versions.
const WAITING: usize = 256;

pub(super) enum Heard {
    /// A control connection, by its id, is up.
    Begun(Name, u64),
    Have(Name, u64, Have),
    Ended(Name, u64),
}

/// Starts the thread; it ends when nobody can send any more.
pub(super) fn start(handler: Arc<dyn PeerHandler>) -> std::io::Result<mpsc::Sender<Heard>> {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    std::thread::Builder::new().name("mesh-heard".into()).spawn(move || {
        let mut current = BTreeMap::new();
        while let Some(heard) = receiver.blocking_recv() {
            hand_on(&*handler, &mut current, heard);
        }
    })?;
    Ok(sender)
}

/// A connection that was replaced says nothing any more, although its last words may come late.
fn hand_on(handler: &dyn PeerHandler, current: &mut BTreeMap<Name, u64>, heard: Heard) {
    match heard {
        Heard::Begun(peer, id) => {
            if current.get(&peer).is_some_and(|newer| *newer > id) {
                return;
            }
            if current.insert(peer.clone(), id).is_some() {
                handler.lost(&peer);
            }
        }
        Heard::Have(peer, id, have) if current.get(&peer) == Some(&id) => handler.heard(&peer, &have),
        Heard::Ended(peer, id) if current.get(&peer) == Some(&id) => {
            current.remove(&peer);
            handler.lost(&peer);
        }
        Heard::Have(..) | Heard::Ended(..) => {}
    }
}
