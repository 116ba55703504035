//! `cargo xtask tidy`: the maps must agree with the land.
//!
//! Each check reads the tree and returns its complaints, one sentence each; all of them are
//! printed before the chore fails. Read next: [`edges`], [`files`], [`docs`],
//! [`dependencies`].

mod dependencies;
mod docs;
mod edges;
mod files;

use anyhow::{Result, bail};
use std::path::Path;

/// Runs every check.
pub(crate) fn run() -> Result<()> {
    let root = Path::new(".");
    let architecture = std::fs::read_to_string("ARCHITECTURE.md")?;
    let rows = edges::table(&architecture);
    let mut complaints = edges::check(&rows, &edges::found()?);
    complaints.extend(edges::pure_crates_are_guarded(&rows, root));
    complaints.extend(docs::named_paths_exist(&architecture, root));
    complaints.extend(docs::summary_links_exist(root));
    complaints.extend(docs::claims_have_evidence(root));
    complaints.extend(files::check(root)?);
    complaints.extend(dependencies::check(root)?);
    if complaints.is_empty() {
        return Ok(());
    }
    complaints.iter().for_each(|complaint| eprintln!("tidy: {complaint}"));
    bail!("{} complaints", complaints.len());
}
