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
