//! Making a farm of several servers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes the farm's certificate authority; the answering server is the first member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InitFarm {
    /// Where the other servers reach this one, `HOST:PORT`; its port is that of `mesh.listen`.
    pub address: String,
}

/// A farm that servers may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InitialisedFarm {
    /// The farm's id, 32 hexadecimal digits.
    pub farm: String,
    /// BLAKE3 of the authority's certificate in hexadecimal.
    pub fingerprint: String,
}

/// Makes a token with which one server joins, once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// How long it is good for, in seconds; an hour where it is not said.
    #[serde(default)]
    pub expires_s: Option<u64>,
}

/// A token, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantedJoinToken {
    /// What `headwater farm join` takes: fingerprint, secret, addresses.
    pub token: String,
    /// When it stops letting anybody in.
    pub expires_ms: u64,
}

/// How a server is taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RemoveServer {
    /// The digest of the contents and discarded changes that only this server has and that are given
    /// up, as the refusal without it says: for a machine that is gone for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub give_up: Option<String>,
}
