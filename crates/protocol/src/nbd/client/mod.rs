//! The client's end: a handshake that ends in an open export, then a parser of replies.
//!
//! It does not hold sockets, buffers of requests in flight or time-outs; the agent and the load
//! generator do. Requests are encoded by [`super::wire::RequestHeader`].

mod handshake;
mod replies;
#[cfg(test)]
mod tests;

pub use handshake::{BlockSizes, Handshake, HandshakeError, OpenExport, Step, Wishes};
pub use replies::{BadReply, Parsed, PendingRead, Reply, ReplyForm, ReplyParser, StatusExtent};
