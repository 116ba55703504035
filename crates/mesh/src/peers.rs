//! How other servers are reached, and what they may ask: two traits, so that the pulling neither
//! knows sockets nor certificates.

use model::Name;
use protocol::mesh::{Class, Have, Request, Response};
use std::sync::mpsc::Receiver;

/// The other end cannot be reached now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer is not connected")]
pub struct PeerDown;

/// The servers that are connected.
pub trait Peers: Send + Sync {
    /// Their names.
    fn connected(&self) -> Vec<Name>;

    /// Sends a request; the parts of the answer come through the receiver, `Done` or `Refused` at
    /// last. A receiver that ends without them says that the connection was lost. What may wait
    /// there is bounded by what one request may ask for.
    fn request(&self, peer: &Name, class: Class, request: Request) -> Result<Receiver<Response>, PeerDown>;

    /// Tells every connected peer what is here of a root.
    fn tell(&self, have: &Have);
}

/// What peers say and ask; called on threads that may block.
pub trait PeerHandler: Send + Sync {
    /// All that is here, to be told to a peer that has just connected.
    fn possession(&self) -> Vec<Have>;

    /// A peer said what it has.
    fn heard(&self, peer: &Name, have: &Have);

    /// A peer's connection is gone: so is what it said.
    fn lost(&self, peer: &Name);

    /// Answers a request, part by part; `send` says false where nobody wants the rest.
    fn answer(&self, request: &Request, send: &mut dyn FnMut(Response) -> bool);
}
