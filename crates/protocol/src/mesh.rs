//! What servers say to each other: length-prefixed frames over mutual TLS.
//!
//! A frame is `u32` length (little-endian, of all that follows), `u8` kind, body; the table of the
//! kinds stands in docs/formats.md. [`Frame`] is the closed set of what may be said, [`decode`]
//! takes one from the front of what was received, [`Frame::encode`] appends one to what is sent.
//! Nothing is allocated by a number that the other end sent: a frame is parsed once its bytes are
//! here, and how many those may be is [`MAX_FRAME_BYTES`].
//!
//! Not here: who may say what (the certificate, crate `mesh`), what is worth asking for
//! (`mesh::engine`), and whether a chunk's bytes are right (its hash, crate `store`).

mod codec;
pub mod exercise;
mod frame;
#[cfg(test)]
mod tests;

pub use codec::{FrameError, decode};
pub use frame::{
    Accept, Class, Encoding, FarmId, Frame, Have, Hello, ParseFarmIdError, Possession, Refused, Request,
    Response,
};

/// The longest frame, in bytes after its length: 1 MiB of payload and room for what comes before.
pub const MAX_FRAME_BYTES: u32 = 1024 * 1024 + 64 * 1024;
/// The most payload in one frame: larger manifests and bitmaps are sent in pieces.
pub const MAX_PIECE_BYTES: usize = 1024 * 1024;
/// The most chunks or pages that one request may name: 16 MiB of the disk.
pub const MAX_NAMED: usize = 256;
/// The longest text of a refusal, in bytes.
pub const MAX_TEXT_BYTES: usize = 400;
/// The longest description of a server, in bytes: a hundred stores.
pub const MAX_STATUS_BYTES: usize = 64 * 1024;
/// The revision of this protocol; both ends must have the same.
pub const REVISION: u16 = 1;
