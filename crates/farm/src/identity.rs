//! The secret that devices' identities are derived from.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The secret, for the farm's servers alone: no view, event or log has it.
///
/// Whoever has it can compute every device's SSH host key; there is one for the whole farm, so that
/// every server gives a device the same identity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentitySecret {
    /// The format of this record.
    pub revision: FormatRevision,
    /// 256 random bits in hexadecimal.
    pub secret: String,
    /// When it was made.
    pub created: Timestamp,
}

impl Record for IdentitySecret {}

/// It stays out of logs, also by accident.
impl fmt::Debug for IdentitySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentitySecret").field("created", &self.created).finish_non_exhaustive()
    }
}
