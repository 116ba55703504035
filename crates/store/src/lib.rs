//! Chunks, layers and manifests on one server's disks (DESIGN section 4).
//!
//! A [`Store`] is one directory. It holds *layers* (sparse files in the disk's own addresses, one
//! for what each version adds) and *versions* (a manifest and the list of the layers that make it
//! up). An import is staged under `incoming/` and published by renames, so that an error, Ctrl-C
//! and kill -9 all leave either a whole version or nothing.
//!
//! What it does not do: it knows no vDisk names and no version numbers (those are farm records),
//! only roots. `docs/formats.md` documents every file byte by byte.
//!
//! Read next: [`store`] for the directory, [`import`] for the way in, [`version`] for reading.

mod aligned;
pub mod draft;
mod durable;
pub mod files;
pub mod import;
pub mod layer;
mod layout;
mod page_pack;
mod presence;
mod record;
pub mod store;
pub mod version;

pub use draft::{Checkpoint, CheckpointObserver, Draft, DraftError, DraftExtent, DraftName, DraftSummary};
pub use import::{ImportError, ImportObserver, ImportOptions, ImportProgress, Imported, Quiet};
pub use layer::Layer;
pub use layout::StoreError;
pub use store::{Freed, Space, Store};
pub use version::{ChunkError, Place, StoredVersion, VersionError};
