//! The product's programs: `headwater` as a release build, the agent as a static binary.
//!
//! The agent runs inside initrds that have no C library, so it is linked with `+crt-static`; that
//! flag changes every crate, so it has a target folder of its own.

use crate::packages::{self, Purpose};
use crate::process::{cargo, run};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the programs lie when they are built.
pub(crate) struct Binaries {
    /// The server, the lab and the command line.
    pub(crate) headwater: PathBuf,
    /// The device's end.
    pub(crate) agent: PathBuf,
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds both into `target/headwater`.
pub(crate) fn build() -> Result<Binaries> {
    packages::install(Purpose::Build)?;
    run(cargo().args(["build", "--release", "--package", "headwater"]))?;
    let mut agent = cargo();
    agent.args(["build", "--profile", "agent", "--package", "headwater-agent", "--target", TARGET]);
    agent.args(["--target-dir", "target/agent"]).env("RUSTFLAGS", "-C target-feature=+crt-static");
    run(&mut agent)?;
    fs::create_dir_all("target/headwater")?;
    Ok(Binaries {
        headwater: placed(Path::new("target/release/headwater"))?,
        agent: placed(&Path::new("target/agent").join(TARGET).join("agent/headwater-agent"))?,
    })
}

/// Puts a built program into `target/headwater`, by rename: a running copy is not disturbed.
fn placed(built: &Path) -> Result<PathBuf> {
    let name = built.file_name().context("a program has a name")?;
    let place = Path::new("target/headwater").join(name);
    let fresh = place.with_extension("new");
    fs::copy(built, &fresh).with_context(|| format!("copying {}", built.display()))?;
    fs::rename(&fresh, &place)?;
    Ok(place)
}
