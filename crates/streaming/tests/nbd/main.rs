//! The server as clients see it, over real sockets.

mod bad_clients;
mod serving;
mod support;
