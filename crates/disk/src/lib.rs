//! What a device sees: the [`BlockIo`] trait, version disks, write caches and decorators.
//!
//! Nothing here speaks a wire protocol (that is `protocol` and `streaming`) and nothing knows the
//! mesh: a disk is built over what `store` has, or over anything else that reads.

pub mod block_io;
pub mod ram_cache;

pub use block_io::{Access, BlockError, BlockIo, Extent, ExtentKind, Geometry, MappedSlice, Piece};
pub use ram_cache::{CacheFill, RamCache};
