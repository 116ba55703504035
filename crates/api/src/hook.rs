//! Hooks: what runs against a copy of a draft before it is sealed.

use model::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A hook of the answering server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HookView {
    /// Its name.
    pub name: Name,
    /// Whether it is part of the server.
    pub built_in: bool,
    /// Why it is not run; none where it is.
    pub refused: Option<String>,
}

/// Runs hooks against a copy of a version and throws the copy away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestHooks {
    /// Which, in order; the vDisk's own where there is no list.
    #[serde(default)]
    pub hooks: Option<Vec<Name>>,
}

/// What a hook did to a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HookReportView {
    /// Its name.
    pub hook: Name,
    /// What it says about its work: files that it changed, or the last lines of its output.
    pub lines: Vec<String>,
    /// Chunks of 64 KiB that it wrote to; some may hold what they held before.
    pub touched_chunks: u64,
}
