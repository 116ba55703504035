//! What the measurements share: a disk image with real content, children and their CPU time.
//!
//! Each binary measures us and the peers interleaved in one run, prints a table, and ends with one
//! line; it exits non-zero where the bar is missed.

pub mod child;
pub mod disk_probe;
pub mod first_read;
pub mod import_kill;
pub mod lan;
pub mod linked_servers;
pub mod nbd;
pub mod os_update;
pub mod real_farm;
pub mod real_image;
pub mod real_server;
pub mod replication;
pub mod rest;
pub mod version_kill;
