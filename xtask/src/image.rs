//! `cargo xtask image NAME`: real Debian disks, as an installer would leave them, without root.
//!
//! Stock kernel, stock initrd, one ext4 on a GPT disk; no boot loader, since nothing ever boots
//! from the disk itself. The only additions are two small services for the tests (`xtask/guest`).
//! Images are cached under the hash of their recipe. Read next: [`recipe`].

mod recipe;

use crate::packages::{self, Purpose};
use crate::process::{is_root, run};
use anyhow::{Context, Result};
use recipe::RECIPES;
pub(crate) use recipe::Recipe;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The virtual size of each image: the system takes 0.7 GiB, and the tests that fill the write
/// cache need room for more than the cache holds.
const DISK_MIB: u64 = 3072;
/// Where the partition begins; one more MiB stays free at the end for the second GPT.
const PARTITION_MIB: u64 = 1;

/// Makes the image unless it is in the cache, and gives back its path.
pub(crate) fn make(recipe: &Recipe) -> Result<PathBuf> {
    let folder = cache_folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let image = folder.join(format!("{}-{}.raw", recipe.name, recipe.fingerprint(DISK_MIB)));
    // Two tests that need the same image at once: the second waits for the first one's.
    let lock = File::create(folder.join(format!("{}.lock", recipe.name)))?;
    lock.lock().context("waiting for another program that makes the same image")?;
    if !image.exists() {
        packages::install(Purpose::Lab)?;
        eprintln!("Making the image {} (one to three minutes, then cached)", recipe.name);
        build(recipe, &folder, &image)?;
    }
    Ok(image)
}

/// Makes every image that is not in the cache.
pub(crate) fn make_all() -> Result<()> {
    RECIPES.iter().try_for_each(|recipe| make(recipe).map(|_| ()))
}

/// `$XDG_CACHE_HOME/headwater/images`, or below `~/.cache`.
fn cache_folder() -> Result<PathBuf> {
    let given = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = given.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("headwater/images"))
}

fn build(recipe: &Recipe, folder: &Path, image: &Path) -> Result<()> {
    let tree = folder.join(format!("{}.tar", recipe.name));
    let disk = folder.join(format!("{}.part", recipe.name));
    let made = bootstrap(recipe, &tree).and_then(|()| fill_disk(recipe, &tree, &disk));
    let _ = fs::remove_file(&tree);
    if made.is_err() {
        let _ = fs::remove_file(&disk);
    }
    made?;
    Ok(fs::rename(&disk, image)?)
}

fn bootstrap(recipe: &Recipe, tree: &Path) -> Result<()> {
    let mode = if is_root() { "--mode=root" } else { "--mode=unshare" };
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", mode]);
    command.arg(format!("--include={}", recipe.packages().join(",")));
    command.arg(format!("--customize-hook={}", recipe.customize()));
    run(command.arg(recipe.suite).arg(tree))
}

/// Partitions a sparse file and fills the partition, with the owners that the archive names.
fn fill_disk(recipe: &Recipe, tree: &Path, disk: &Path) -> Result<()> {
    File::create(disk)?.set_len(DISK_MIB << 20)?;
    let script = format!(
        "set -eu; PATH=$PATH:/usr/sbin:/sbin; root=$(mktemp -d); trap 'rm -rf \"$root\"' EXIT
        printf 'label: gpt\\nstart={PARTITION_MIB}MiB, size={size}MiB, type=linux, name=root\\n' |
            sfdisk --quiet \"$2\"
        tar --extract --file \"$1\" --directory \"$root\" --exclude='./dev/*'
        mke2fs -q -F -t ext4 -L root -U {uuid} -E offset={offset} -d \"$root\" \"$2\" {size}M",
        size = DISK_MIB - PARTITION_MIB - 1,
        offset = PARTITION_MIB << 20,
        uuid = recipe.uuid,
    );
    let mut command = match is_root() {
        true => Command::new("sh"),
        false => {
            let mut faked = Command::new("fakeroot");
            faked.arg("sh");
            faked
        }
    };
    eprintln!("Filling {}", disk.display());
    let status = command.args(["-c", &script, "sh"]).arg(tree).arg(disk).status()?;
    anyhow::ensure!(status.success(), "partitioning or filling {} failed", disk.display());
    Ok(())
}
