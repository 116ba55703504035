//! The licences, sources and bans of `deny.toml`, against what Cargo resolves.
//!
//! `cargo deny` does the same and more (known vulnerabilities); where it is not installed these
//! are checked all the same, for they need no database. What is read of `deny.toml` is read as
//! `cargo deny` does; licences are SPDX expressions (SPDX 2.3, annex D).

use crate::process::{cargo, output};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::path::Path;

/// Where crates may come from.
const REGISTRIES: [&str; 2] =
    ["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];
/// What no licence expression is deeper than.
const MAX_DEPTH: usize = 16;

#[derive(Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None for the crates of this workspace.
    source: Option<String>,
}

/// Complains of crates that `deny.toml` does not let in.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join("deny.toml")).context("deny.toml")?;
    let deny: Deny = toml::from_str(&text).context("deny.toml")?;
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--locked"]);
    for target in &deny.graph.targets {
        command.args(["--filter-platform", target]);
    }
    let metadata: Metadata =
        serde_json::from_str(&output(&mut command)?).context("reading cargo metadata")?;
    let foreign: Vec<_> = metadata.packages.iter().filter(|package| package.source.is_some()).collect();
    ensure!(!foreign.is_empty(), "cargo metadata names no dependency: nothing was checked");
    Ok(foreign.into_iter().flat_map(|package| complaints(&deny, package)).collect())
}

fn complaints(deny: &Deny, package: &Package) -> Vec<String> {
    let Package { name, version, license, source } = package;
    let mut found = Vec::new();
    let source = source.as_deref().unwrap_or_default();
    if !REGISTRIES.contains(&source) {
        found.push(format!("{name} {version} comes from {source}, not from crates.io"));
    }
    if let Some(ban) = deny.bans.deny.iter().find(|ban| ban.name == *name) {
        found.push(format!("{name} {version} is banned: {}", ban.reason));
    }
    let license = license.as_deref().unwrap_or("none");
    match is_allowed(license, &deny.licenses.allow) {
        Ok(true) => {}
        Ok(false) => found.push(format!("{name} {version} has the licence {license}, see deny.toml")),
        Err(error) => found.push(format!("{name} {version}: its licence {license:?}: {error}")),
    }
    found
}

/// Whether one of the choices that an expression gives is allowed in all of its parts.
fn is_allowed(expression: &str, allow: &[String]) -> Result<bool> {
    // Before SPDX expressions a choice was written with a slash.
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = Parser { words: &mut words, allow, depth: 0 }.choice()?;
    match words.next() {
        None => Ok(allowed),
        Some(word) => bail!("{word:?} is not expected"),
    }
}

struct Parser<'a, 'w, I: Iterator<Item = &'w str>> {
    words: &'a mut std::iter::Peekable<I>,
    allow: &'a [String],
    depth: usize,
}

impl<'w, I: Iterator<Item = &'w str>> Parser<'_, 'w, I> {
    fn choice(&mut self) -> Result<bool> {
        let mut allowed = self.all()?;
        while self.words.next_if_eq(&"OR").is_some() {
            allowed |= self.all()?;
        }
        Ok(allowed)
    }

    fn all(&mut self) -> Result<bool> {
        let mut allowed = self.one()?;
        while self.words.next_if_eq(&"AND").is_some() {
            allowed &= self.one()?;
        }
        Ok(allowed)
    }

    fn one(&mut self) -> Result<bool> {
        let word = self.words.next().context("it ends too soon")?;
        if word != "(" {
            let name = match self.words.next_if_eq(&"WITH") {
                Some(_) => format!("{word} WITH {}", self.words.next().context("it ends too soon")?),
                None => word.to_owned(),
            };
            return Ok(self.allow.contains(&name));
        }
        ensure!(self.depth < MAX_DEPTH, "it is too deep");
        self.depth += 1;
        let allowed = self.choice()?;
        self.depth -= 1;
        ensure!(self.words.next() == Some(")"), "a parenthesis is open");
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(expression: &str) -> Result<bool> {
        let allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
        is_allowed(expression, &allow.map(str::to_owned))
    }

    #[test]
    fn a_licence_is_allowed_where_one_choice_is_in_all_its_parts() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-2.0/MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
            "GPL-3.0 OR (MIT AND (Apache-2.0))",
        ] {
            assert!(allowed(good).unwrap(), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND OpenSSL", "none", "MIT WITH x"] {
            assert!(!allowed(bad).unwrap(), "{bad}");
        }
        for wrong in ["", "MIT OR", "(MIT", "MIT MIT", "MIT)", &"(".repeat(99)] {
            assert!(allowed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn strange_sources_and_banned_crates_are_complained_of() {
        let deny: Deny = toml::from_str(
            "[graph]\ntargets = []\n[licenses]\nallow = ['MIT']\n[bans]\ndeny = [{ crate = 'bad', reason = 'why' }]\n",
        )
        .unwrap();
        let package = |name: &str, license: Option<&str>, source: &str| Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: Some(source.to_owned()),
        };
        assert_eq!(complaints(&deny, &package("good", Some("MIT"), REGISTRIES[0])), Vec::<String>::new());
        assert_eq!(complaints(&deny, &package("bad", None, "git+https://example.org/bad")).len(), 3);
    }
}
