//! TFTP, the reading half: how firmware fetches its loader.
//!
//! Pure: [`Packet::parse`] for what clients send, [`Transfer`] for one file to one client; which
//! block goes out when is decided here, sockets and file contents are the caller's. RFC 1350, with
//! the options of RFC 2347 (negotiation), 2348 (blksize), 2349 (timeout, tsize) and 7440
//! (windowsize). Writing is refused. Our own and not a crate: the ones there are ignore a client's
//! ERROR, which ends the size probe that every PXE ROM begins with, or lack windows.

mod packet;
mod transfer;

pub use packet::{ErrorCode, Packet, PacketError, ReadRequest, data_header, error};
pub use transfer::{End, Outcome, Outgoing, Transfer};
