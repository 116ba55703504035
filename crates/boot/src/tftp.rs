//! The TFTP server's sockets; which packet goes out when is `protocol::tftp`'s.
//!
//! Files are a map from name to bytes: there is no directory, so there is no way out of one.

mod server;

pub use server::{PORT, TftpCounters, TftpFiles, TftpServer, TftpSettings};
