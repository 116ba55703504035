//! Paths and links that the documents name must exist.

use crate::show::{CLAIMS, figure};
use std::path::Path;

/// Complains of paths in backticks in ARCHITECTURE.md that are not in the tree.
pub(super) fn named_paths_exist(architecture: &str, root: &Path) -> Vec<String> {
    let paths = quoted(architecture).filter(|text| looks_like_a_path(text));
    paths
        .filter(|path| !root.join(path).exists())
        .map(|path| format!("ARCHITECTURE.md names {path}, which does not exist"))
        .collect()
}

/// The texts between backticks, line by line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn looks_like_a_path(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let tops = ["crates/", "docs/", "benches/", "xtask/", "fuzz/", "packaging/", ".ci/", ".config/"];
    let is_file = [".md", ".toml", ".rs"].iter().any(|end| text.ends_with(end));
    plain && (tops.iter().any(|top| text.starts_with(top)) || is_file && !text.contains("::"))
}

/// Complains of links in the book's table of contents that lead nowhere.
pub(super) fn summary_links_exist(root: &Path) -> Vec<String> {
    let Ok(summary) = std::fs::read_to_string(root.join("docs/SUMMARY.md")) else {
        return vec!["docs/SUMMARY.md does not exist".to_owned()];
    };
    links(&summary)
        .filter(|link| !root.join("docs").join(link).exists())
        .map(|link| format!("docs/SUMMARY.md links {link}, which does not exist"))
        .collect()
}

/// Complains of claims that `cargo xtask show` knows and docs/evidence.md does not.
pub(super) fn claims_have_evidence(root: &Path) -> Vec<String> {
    let evidence = std::fs::read_to_string(root.join("docs/evidence.md")).unwrap_or_default();
    let unproven = CLAIMS.iter().filter(|claim| figure(&evidence, claim.name).is_none());
    unproven.map(|claim| format!("docs/evidence.md has no figure for {}", claim.name)).collect()
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_are_taken_for_paths() {
        assert!(looks_like_a_path("crates/model"));
        assert!(looks_like_a_path("deny.toml"));
        assert!(!looks_like_a_path("cargo xtask tidy"));
        assert!(!looks_like_a_path("BlockIo"));
        assert!(!looks_like_a_path("model::chunk"));
    }

    #[test]
    fn links_of_a_table_of_contents_are_found() {
        let found: Vec<_> = links("- [A](guide/a.md)\n- [B](b.md)").collect();
        assert_eq!(found, ["guide/a.md", "b.md"]);
    }
}
