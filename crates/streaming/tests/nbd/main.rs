//! The server as clients see it, over real sockets.

mod bad_clients;
mod identity;
mod over_tls;
mod serving;
mod support;
