//! The product's programs: `headwater`, and the agent as a static binary.
//!
//! Released builds for the lab and for use; for the tests the server comes from the development
//! build that the tests need anyway, which saves minutes of optimising.
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

/// What the programs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// Use: optimised, in `target/headwater`.
    Release,
    /// The end-to-end tests: `target/headwater-dev`.
    Dev,
}

impl Build {
    fn folder(self) -> &'static Path {
        Path::new(match self {
            Self::Release => "target/headwater",
            Self::Dev => "target/headwater-dev",
        })
    }
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds both and puts them into the build's folder.
pub(crate) fn build(build: Build) -> Result<Binaries> {
    packages::install(Purpose::Build)?;
    let server = match build {
        Build::Release => {
            run(cargo().args(["build", "--release", "--package", "headwater"]))?;
            "target/release/headwater"
        }
        Build::Dev => {
            // All programs, not only this one: the same choice of features as in the tests' build.
            run(cargo().args(["build", "--workspace", "--bins"]))?;
            "target/debug/headwater"
        }
    };
    let mut agent = cargo();
    agent.args(["build", "--profile", "agent", "--package", "headwater-agent", "--target", TARGET]);
    agent.args(["--target-dir", "target/agent"]).env("RUSTFLAGS", "-C target-feature=+crt-static");
    run(&mut agent)?;
    fs::create_dir_all(build.folder())?;
    let agent = Path::new("target/agent").join(TARGET).join("agent/headwater-agent");
    Ok(Binaries {
        headwater: placed(Path::new(server), build.folder())?,
        agent: placed(&agent, build.folder())?,
    })
}

/// Puts a built program into `folder`, by rename: a running copy is not disturbed.
fn placed(built: &Path, folder: &Path) -> Result<PathBuf> {
    let place = folder.join(built.file_name().context("a program has a name")?);
    let fresh = place.with_extension("new");
    fs::copy(built, &fresh).with_context(|| format!("copying {}", built.display()))?;
    fs::rename(&fresh, &place)?;
    Ok(place)
}
