//! The server's end: a handshake that ends in a [`Session`], a parser of requests, encoders of
//! replies.
//!
//! What any client may send ends in a typed request, an error reply or [`BadRequest`]; nothing
//! here panics on input or holds more than one option (16 KiB) of it.

mod handshake;
mod options;
mod replies;
mod requests;
#[cfg(test)]
mod tests;

pub use handshake::{Event, ExportShape, Handshake, OpenPurpose, OpenRefusal, Step, TlsOffer};
pub use replies::{ChunkRange, ReplyForm, ReplyTo, StatusRun};
pub use requests::{BadRequest, Incoming, Order, OrderKind, Parsed, RequestParser};

/// What the handshake agreed on, for the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// How replies are written.
    pub form: ReplyForm,
    /// Whether `base:allocation` was selected.
    pub allocation: bool,
    /// The disk's size in bytes.
    pub size_bytes: u64,
    /// Whether writing commands are refused.
    pub read_only: bool,
}
