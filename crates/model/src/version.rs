//! What a version of a vDisk is called and who may boot it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a version within its vDisk, from 1; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionNumber(pub u32);

impl VersionNumber {
    /// The number of an imported vDisk's only version.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which devices a version is for (DESIGN section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    /// A draft that one maintenance device may write; or sealed, and not yet promoted.
    Maintenance,
    /// Sealed; for test devices.
    Test,
    /// Promoted, waiting for its date or for its servers.
    Pending,
    /// In production now, or before: the vDisk's pointer says which one production devices boot.
    Production,
    /// Let go: nothing boots it. Kept until it is deleted.
    Retired,
}

impl fmt::Display for AccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maintenance => "maintenance",
            Self::Test => "test",
            Self::Pending => "pending",
            Self::Production => "production",
            Self::Retired => "retired",
        })
    }
}
