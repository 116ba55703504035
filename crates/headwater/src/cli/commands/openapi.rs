//! `headwater openapi`

use crate::cli::output::print;

/// Prints the description of the API of this program; no server is asked.
pub(crate) fn run() -> anyhow::Result<()> {
    print(crate::serve::openapi_text().trim_end())
}
