//! ARCHITECTURE.md's table of crates against `cargo metadata`, both ways.

use crate::process::{cargo, output};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A crate of ours by its folder, e.g. `crates/model`.
type Folder = String;

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    folder: Folder,
    is_pure: bool,
    may_use: BTreeSet<String>,
}

/// Reads the rows that begin with a crate's folder in backticks.
pub(super) fn table(architecture: &str) -> Vec<Row> {
    architecture.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<Row> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let folder = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
    let purpose = cells.next()?;
    let may_use = cells.next()?.split_whitespace().map(str::to_owned).collect();
    Some(Row { folder, is_pure: purpose.contains("(pure)"), may_use })
}

/// The crates of the workspace and the crates of ours that each uses in normal builds.
pub(super) fn found() -> Result<BTreeMap<Folder, BTreeSet<String>>> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("reading cargo metadata")?;
    let root = metadata.workspace_root;
    let entry = |package: Package| {
        let folder = package.manifest_path.parent()?.strip_prefix(&root).ok()?.display().to_string();
        let normal = package.dependencies.into_iter().filter(|edge| edge.kind.is_none());
        Some((folder, normal.filter_map(|edge| short(&edge.path?)).collect()))
    };
    Ok(metadata.packages.into_iter().filter_map(entry).collect())
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    kind: Option<String>,
    path: Option<PathBuf>,
}

fn short(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_str()?.to_owned())
}

/// Complains of crates without a row, rows without a crate, and edges that no row allows.
pub(super) fn check(rows: &[Row], found: &BTreeMap<Folder, BTreeSet<String>>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (folder, uses) in found {
        let Some(row) = rows.iter().find(|row| row.folder == *folder) else {
            complaints.push(format!("{folder} has no row in ARCHITECTURE.md"));
            continue;
        };
        let strays = uses.difference(&row.may_use);
        complaints
            .extend(strays.map(|to| format!("{folder} uses {to}; ARCHITECTURE.md allows no such edge")));
    }
    let ghosts = rows.iter().filter(|row| !found.contains_key(&row.folder));
    complaints.extend(ghosts.map(|row| format!("ARCHITECTURE.md lists {}, which is no crate", row.folder)));
    complaints
}

/// Complains of pure crates whose clippy.toml does not ban clocks and files.
pub(super) fn pure_crates_are_guarded(rows: &[Row], root: &Path) -> Vec<String> {
    let unguarded = |row: &&Row| {
        let lints = std::fs::read_to_string(root.join(&row.folder).join("clippy.toml"));
        !lints.is_ok_and(|text| text.contains("SystemTime::now") && text.contains("std::fs::File"))
    };
    let pure = rows.iter().filter(|row| row.is_pure);
    pure.filter(unguarded)
        .map(|row| format!("{} is pure but its clippy.toml does not ban clocks and files", row.folder))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| crate | what | may use |\n|---|---|---|\n\
        | `crates/model` | nouns (pure) | |\n| `crates/disk` | disks | model store |\n";

    fn found(edges: &[(&str, &[&str])]) -> BTreeMap<Folder, BTreeSet<String>> {
        let names = |uses: &[&str]| uses.iter().map(|name| (*name).to_owned()).collect();
        edges.iter().map(|(folder, uses)| ((*folder).to_owned(), names(uses))).collect()
    }

    #[test]
    fn an_allowed_edge_need_not_be_used() {
        let tree = found(&[("crates/model", &[]), ("crates/disk", &["model"])]);
        assert!(check(&table(TABLE), &tree).is_empty());
    }

    #[test]
    fn a_stray_edge_a_new_crate_and_a_ghost_are_named() {
        let tree = found(&[("crates/disk", &["mesh"]), ("crates/new", &[])]);
        let complaints = check(&table(TABLE), &tree);
        assert!(complaints[0].contains("crates/disk uses mesh"));
        assert!(complaints[1].contains("crates/new has no row"));
        assert!(complaints[2].contains("crates/model"));
    }

    #[test]
    fn purity_is_read_from_the_purpose() {
        let rows = table(TABLE);
        assert!(rows[0].is_pure && !rows[1].is_pure);
    }
}
