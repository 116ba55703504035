//! Names and addresses in paths, with messages for people.

use super::api_error::ApiError;
use model::{MacAddress, Name};

/// A name out of a path.
pub(crate) fn name(text: &str) -> Result<Name, ApiError> {
    Name::new(text)
        .map_err(|error| ApiError::bad_request(error.to_string(), "names are lower case, as they were given"))
}

/// A MAC address out of a path.
pub(crate) fn mac(text: &str) -> Result<MacAddress, ApiError> {
    text.parse().map_err(|error: model::mac::ParseMacError| {
        ApiError::bad_request(error.to_string(), "write it like 52:54:00:12:34:56")
    })
}

/// The collection that is meant where none is given.
pub(crate) fn default_collection() -> Name {
    Name::new("default").expect("a name")
}
