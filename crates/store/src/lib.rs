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

mod adopt;
mod aligned;
mod bucket;
mod catalog;
pub mod check;
mod direct_read;
pub mod draft;
mod durable;
pub mod files;
pub mod flatten;
pub mod import;
pub mod layer;
mod layout;
mod opening;
mod page_pack;
mod peer_read;
mod presence;
pub mod prune;
mod quarantine;
pub mod receive;
mod record;
pub mod scrub;
pub mod store;
mod suspects;
pub mod version;
mod warm;
pub mod watermark;

pub use adopt::AdoptError;
pub use check::{CheckError, CheckObserver, CheckReport, check};
pub use draft::{Checkpoint, CheckpointObserver, Draft, DraftError, DraftExtent, DraftName, DraftSummary};
pub use flatten::{FlattenError, FlattenObserver, FlattenProgress, Flattened};
pub use import::{ImportError, ImportObserver, ImportOptions, ImportProgress, Imported, Quiet};
pub use layer::Layer;
pub use layout::StoreError;
pub use prune::{PruneMark, PruneMode, Pruned};
pub use receive::{ReceiveError, ReceiveOptions, Receiving, Urgency};
pub use scrub::MendError;
pub use scrub::{BadChunk, ScrubObserver, ScrubOptions, ScrubProgress, Scrubbed};
pub use store::{Freed, Space, Store};
pub use version::{ChunkError, Place, StoredVersion, VersionError};
pub use watermark::{SpaceState, Watermarks};
