//! Server to device: NBD over [`disk::BlockIo`].
//!
//! A few worker threads, each with its own epoll and its share of the connections. One socket
//! read brings a batch of requests, one gathered write answers it; what is in memory never leaves
//! the thread, what is not goes to a pool and comes back through an eventfd. The protocol itself
//! is `protocol::nbd::server`; which exports exist is the [`ExportDirectory`]'s business.
//!
//! Read next: [`server`] for starting one, `worker` for the loop, `connection` for one client.

mod acceptor;
mod certificate;
mod connection;
pub mod directory;
mod kernel;
mod listener;
mod mailbox;
mod outbox;
mod pool;
pub mod server;
mod serving;
mod sessions;
mod spin;
mod tls;
mod worker;
mod zero_file;

pub use certificate::{CertificateError, tls_config};
pub use directory::{Export, ExportDirectory, ExportRefusal, Peer, SessionTotals};
pub use listener::Listener;
pub use server::{NbdOptions, NbdServer, ServerStats, StartError};
pub use sessions::SessionStatus;
pub use tls::TlsPolicy;
