//! Wire protocols as sans-IO state machines: bytes to events and back.
//!
//! Pure: nothing here opens a socket or reads a clock (the crate's `clippy.toml` bans them), so
//! that every parser can be fuzzed and every exchange simulated.

pub mod dhcp;
pub mod mesh;
pub mod nbd;
pub mod plan;
pub mod tftp;
