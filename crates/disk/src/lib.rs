//! What a device sees: the [`BlockIo`] trait, version disks, write caches and decorators.
//!
//! Nothing here speaks a wire protocol (that is `protocol` and `streaming`) and nothing knows the
//! mesh: a disk is built over what `store` has, or over anything else that reads.

pub mod block_io;
mod chunk_source;
pub mod contract;
mod delayed;
mod draft_disk;
mod failing;
mod fenced;
mod file_disk;
mod lazy_disk;
mod mapped_cache;
mod mapped_file;
mod mapping;
mod memory_disk;
pub mod ram_cache;
mod range;
mod recorded;
mod residency;
mod shared;
mod version_disk;

pub use block_io::{Access, BlockError, BlockIo, Extent, ExtentKind, Geometry, MappedSlice, Piece};
pub use chunk_source::{ChunkSource, FetchError};
pub use delayed::Delayed;
pub use draft_disk::DraftDisk;
pub use failing::{Failing, Faults};
pub use fenced::{Fenced, Switch, WriteGate};
pub use file_disk::FileDisk;
pub use lazy_disk::LazyDisk;
pub use mapped_cache::MappedCache;
pub use mapping::copy_mapped;
pub use memory_disk::MemoryDisk;
pub use ram_cache::{CacheFill, RamCache};
pub use recorded::{BootLimits, BootRecorder, Recorded};
pub use version_disk::VersionDisk;
