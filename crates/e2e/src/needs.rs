//! What a test needs from outside this crate: the programs, an image, and its turn.
//!
//! Everything is asked of `cargo xtask`, which builds or makes what is missing; a test that cannot
//! have what it needs fails with xtask's own message.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `headwater`: server and command line.
    pub headwater: PathBuf,
    /// The device's end.
    pub agent: PathBuf,
}

/// How many tests may run machines at a time: two emulators fill two cores.
const TURNS: usize = 2;

/// Builds the programs (at once where nothing changed).
pub fn programs() -> Result<Programs> {
    let _building = lock("building")?;
    xtask(&["build", "--dev"])?;
    let folder = workspace().join("target/headwater-dev");
    Ok(Programs { headwater: folder.join("headwater"), agent: folder.join("headwater-agent") })
}

/// Makes the image `name` or takes it from the cache.
pub fn image(name: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(xtask(&["image", name])?.trim()))
}

/// Waits for one of the turns; held until dropped. `cargo nextest` already keeps to the number,
/// plain `cargo test` does not.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held for its lock")] File);

impl Turn {
    /// Waits for a free turn.
    pub fn take() -> Result<Self> {
        loop {
            for turn in 0..TURNS {
                let file = lock_file(&format!("turn-{turn}"))?;
                if file.try_lock().is_ok() {
                    return Ok(Self(file));
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}

fn lock(name: &str) -> Result<File> {
    let file = lock_file(name)?;
    file.lock()?;
    Ok(file)
}

fn lock_file(name: &str) -> Result<File> {
    let folder = workspace().join("target/e2e");
    std::fs::create_dir_all(&folder)?;
    Ok(File::create(folder.join(format!("{name}.lock")))?)
}

fn xtask(words: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "xtask", "--"]).args(words);
    let output = command.current_dir(workspace()).output().context("could not start cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo xtask {} failed:\n{}", words.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/e2e lies two levels down")
}
