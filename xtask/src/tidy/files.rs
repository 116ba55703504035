//! Rules for every Rust file: a head that says what it is for, a bounded length, a name that
//! says something.

use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Files longer than this are split; twice the length that most files should have.
const MOST_LINES: usize = 700;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];
/// Where Rust files of ours may lie.
const SOURCES: &[&str] = &["crates", "xtask", "benches", "fuzz"];

/// Complains of Rust files that break a rule.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for file in rust_files(root)? {
        let text = fs::read_to_string(&file)?;
        let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        complaints.extend(complaints_of(&shown, &text));
    }
    Ok(complaints)
}

fn complaints_of(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!("{path} does not begin with //! and what it is for"));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        complaints.push(format!("{path} has {lines} lines, more than {MOST_LINES}: split it"));
    }
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        complaints.push(format!("{path}: the name {stem:?} says nothing; name what is inside"));
    }
    complaints
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders: Vec<_> = SOURCES.iter().map(|folder| root.join(folder)).filter(|f| f.is_dir()).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_head_too_long_and_badly_named_gets_three_complaints() {
        let complaints = complaints_of("crates/x/src/utils.rs", &"fn f() {}\n".repeat(701));
        assert_eq!(complaints.len(), 3);
        assert!(complaints_of("crates/x/src/lease.rs", "//! Leases.\n").is_empty());
    }
}
