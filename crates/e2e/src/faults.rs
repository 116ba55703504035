//! Real faults on a farm that works: a [`workload`] goes on all the time while a seeded [`plan`] of
//! faults is [`play`]ed, one after the other, and after each it is measured how long the farm takes
//! to agree again ([`converge`]). In the end every server is held against what was acknowledged
//! ([`verdict`]).
//!
//! Read next: `tests/faults.rs`.

pub mod converge;
pub mod flip;
pub mod importer;
pub mod plan;
pub mod play;
pub mod random;
pub mod reader;
pub mod verdict;
pub mod workload;
pub mod writer;

/// The vDisk that is written all the time.
pub const VDISK: &str = "office";
/// Its size.
pub const VDISK_MIB: usize = 16;
