//! The nouns of Headwater: names, hashes, chunk arithmetic, manifests.
//!
//! Pure: nothing here reads a clock, a file, a socket or randomness (the crate's `clippy.toml`
//! bans them). Everything else in the workspace speaks in these types; DESIGN section 2 and
//! `docs/guide/concepts.md` define the words.
//!
//! Read next: [`chunk`] for the arithmetic, [`manifest`] for what a root means.

pub mod boot_profile;
pub mod chunk;
pub mod hash;
pub mod mac;
pub mod manifest;
pub mod name;
#[cfg(feature = "openapi")]
mod openapi;
pub mod version;

pub use boot_profile::BootProfile;
pub use chunk::{ByteRange, CHUNK_SIZE, ChunkIndex, DiskSize};
pub use hash::{ChunkHash, PageHash, Root};
pub use mac::MacAddress;
pub use manifest::{Manifest, Page};
pub use name::Name;
pub use version::{AccessMode, VersionNumber};
