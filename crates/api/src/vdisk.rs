//! vDisks and versions.

use crate::version::VersionView;
use model::Name;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use utoipa::ToSchema;

/// A vDisk and its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VDiskView {
    /// The vDisk's name.
    pub name: Name,
    /// The store that keeps it.
    pub store: Name,
    /// The virtual disk's size in bytes.
    pub size_bytes: u64,
    /// When it was registered.
    pub created_ms: u64,
    /// What runs against its drafts before they are sealed, in order.
    pub hooks: Vec<Name>,
    /// After how many seconds an open draft with changes is saved; none where each server's
    /// configuration says so.
    pub checkpoint_s: Option<u64>,
    /// After how many changed bytes it is saved if that is earlier; none as above.
    pub checkpoint_bytes: Option<u64>,
    /// The version that production devices boot.
    pub production: Option<u32>,
    /// The version that all devices boot instead; none where nothing is pinned.
    pub pinned: Option<u32>,
    /// Its versions, lowest number first.
    pub versions: Vec<VersionView>,
}

/// Changes a vDisk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchVDisk {
    /// What runs against its drafts before they are sealed, in order; as it is where there is no list.
    #[serde(default)]
    pub hooks: Option<Vec<Name>>,
    /// After how many seconds an open draft with changes is saved, 1 to 604,800; 0 as each server's
    /// configuration says; as it is where there is none.
    #[serde(default)]
    pub checkpoint_s: Option<u64>,
    /// After how many changed bytes it is saved if that is earlier, from 1 MiB; 0 and none as above.
    #[serde(default)]
    pub checkpoint_bytes: Option<u64>,
}

/// The format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// The disk's bytes, nothing else.
    Raw,
    /// QEMU's copy-on-write format, version 2 and 3.
    Qcow2,
}

/// Asks for the import of a file that the server can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportVDisk {
    /// The new vDisk's name.
    pub name: Name,
    /// The file's absolute path on the server.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// The file's format; looked for in the file where there is none.
    #[serde(default)]
    pub format: Option<ImageFormat>,
    /// The store to keep it in; the server's first where there is none.
    #[serde(default)]
    pub store: Option<Name>,
    /// What to say about version 1.
    #[serde(default)]
    pub comment: String,
}

/// Asks for a version's content in a new file on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportVDisk {
    /// The new file's absolute path on the server; refused where there is one already.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// The format to write.
    pub format: ImageFormat,
    /// Which version; the one in production where there is none.
    #[serde(default)]
    pub version: Option<u32>,
}

/// What to know of an image that is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContentQuery {
    /// What to say about version 1.
    pub comment: String,
    /// The store to keep it in; the server's first where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Name>,
    /// How many bytes will come, for the progress of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}
