//! The Network Block Device protocol (NBD proto.md), fixed newstyle, both ends, sans-IO.
//!
//! [`wire`] has the numbers and the encoders; [`client`] is what the agent and the load generator
//! speak; [`server`] is what `streaming` speaks. Bytes go in, typed values come out: whoever holds
//! the socket decides when to read, how much to buffer and what to do with an error.

pub mod client;
pub mod exercise;
pub mod server;
pub mod wire;

pub use wire::{Command, ErrorNumber, RequestHeader};
