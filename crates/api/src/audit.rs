//! Who asked for which change, and how it ended.

use model::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A change that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// The record's id; sorts by time.
    pub id: String,
    /// When it was asked for.
    pub at_ms: u64,
    /// The server that was asked.
    pub server: Name,
    /// Who asked: a user's name, `admin` (a server's token file), `server:NAME`, `device:MAC`.
    pub actor: String,
    /// The id of the token that proved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What for: a stable text such as `version.promote`.
    pub action: String,
    /// What it is about: `win11`, `win11/3`; empty where it is about the whole.
    pub object: String,
    /// The address that the request came from; none for what a server does by itself.
    pub from: Option<String>,
    /// The request's id, which the answer had as `x-request-id`.
    pub request: Option<String>,
    /// `ok`, `started` (a job that has not ended), `refused` or `failed`.
    pub result: String,
    /// Why it was refused or failed.
    pub message: String,
    /// What the request said, without secrets, long texts cut.
    #[schema(value_type = Object)]
    pub parameters: serde_json::Value,
}

/// Which records of the audit to answer; fields that are left out match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditQuery {
    /// Not older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Of this actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// About this object, or one below it: `win11` finds `win11/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Of this action, or of one of this noun: `version` finds `version.promote`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// That ended so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Older than the record of this id: the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// At most so many, up to 1,000; 100 unless told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
