//! Makes the contestants: the same bytes in one layer, in fifty, and in qcow2 chains.

use super::serve::deepest;
use anyhow::{Context, Result, ensure};
use headwater_benches::child;
use headwater_benches::nbd::boot_script::Numbers;
use headwater_benches::real_image;
use image::ImageReader;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use store::{DraftName, ImportOptions, Quiet, Store};

/// Versions in the deep chain.
pub(crate) const DEPTH: usize = 50;
/// Depths of the qcow2 chains.
pub(crate) const QCOW2_DEPTHS: [usize; 3] = [1, 10, DEPTH];
/// Writes that one version makes.
const WRITES: usize = 60;
/// The length of a write in bytes: two chunks at most, as an update's are.
const WRITE_BYTES: u64 = 64 << 10;

/// One write of a version.
struct Change {
    offset: u64,
    fill: u8,
}

/// What is measured.
pub(crate) struct Made {
    /// A store whose version has one layer.
    pub(crate) flat: PathBuf,
    /// A store whose deepest version has fifty.
    pub(crate) deep: PathBuf,
    /// The qcow2 chains, by depth.
    pub(crate) qcow2: Vec<(usize, PathBuf)>,
}

/// The contestants, all with the same bytes.
pub(crate) fn everything(directory: &Path, scratch: &Path, size_bytes: u64) -> Result<Made> {
    let image = real_image::prepare(directory, size_bytes)?;
    let changes = changes(size_bytes);
    let (flat, deep) = (scratch.join("flat"), scratch.join("deep"));
    let deep_store = Store::open(&deep)?;
    let first = deep_store.import(&*image::open(&image)?, &ImportOptions::default(), &Quiet)?.root;
    deep_store.claim(&first)?;
    let mut root = first;
    for (number, changes) in changes.chunks(WRITES).enumerate() {
        let name = DraftName::new(&format!("chain.{number}"))?;
        let draft = deep_store.create_draft(&name, &root)?;
        for change in changes {
            draft.write_at(change.offset, &vec![change.fill; WRITE_BYTES as usize])?;
        }
        root = draft.checkpoint(&Quiet)?.root;
        deep_store.claim(&root)?;
        drop(draft);
        deep_store.delete_draft(&name)?;
    }
    let version = deepest(&deep_store)?;
    ensure!(version.layers().len() == DEPTH, "the chain has {} layers", version.layers().len());
    let flat_store = Store::open(&flat)?;
    let imported = flat_store.import(&*version, &ImportOptions::default(), &Quiet)?;
    ensure!(imported.root == version.root(), "the flat version has another root");
    flat_store.claim(&imported.root)?;
    let qcow2 = QCOW2_DEPTHS.map(|depth| qcow2_chain(scratch, &image, &changes, depth));
    Ok(Made { flat, deep, qcow2: qcow2.into_iter().collect::<Result<_>>()? })
}

/// The writes of all versions above the first one.
fn changes(size_bytes: u64) -> Vec<Change> {
    let mut numbers = Numbers::new(7);
    let change = |at: usize| Change {
        offset: numbers.below((size_bytes - WRITE_BYTES) / 4096) * 4096,
        fill: (at % 255) as u8 + 1,
    };
    (0..(DEPTH - 1) * WRITES).map(change).collect()
}

/// A chain of `depth` images that has all changes; of one image, it has them inside.
fn qcow2_chain(scratch: &Path, image: &Path, changes: &[Change], depth: usize) -> Result<(usize, PathBuf)> {
    let path = |number: usize| scratch.join(format!("chain-{depth}-{number}.qcow2"));
    let convert = ["convert", "-f", "raw", "-O", "qcow2"];
    child::run(Command::new("qemu-img").args(convert).arg(image).arg(path(0)))?;
    let overlays = depth - 1;
    if overlays == 0 {
        write_qcow2(&path(0), changes)?;
    }
    for number in 1..=overlays {
        let below = path(number - 1).canonicalize()?;
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(below).arg(path(number));
        child::run(&mut create)?;
        let share = changes.len().div_ceil(overlays);
        write_qcow2(&path(number), changes.chunks(share).nth(number - 1).unwrap_or(&[]))?;
    }
    Ok((depth, path(overlays)))
}

fn write_qcow2(path: &Path, changes: &[Change]) -> Result<()> {
    let mut commands = String::new();
    for Change { offset, fill } in changes {
        writeln!(commands, "write -q -P {fill} {offset} {WRITE_BYTES}")?;
    }
    let script = path.with_extension("commands");
    std::fs::write(&script, commands)?;
    let mut qemu_io = Command::new("qemu-io");
    qemu_io.args(["-f", "qcow2"]).arg(path).stdin(File::open(&script)?).stdout(Stdio::null());
    child::run(&mut qemu_io)?;
    Ok(std::fs::remove_file(script)?)
}

/// Makes a sparse disk of 1 TiB with fifty versions and opens it; says what that cost.
pub(crate) fn open_a_tebibyte(scratch: &Path) -> Result<String> {
    let (image, path) = (scratch.join("tebibyte.raw"), scratch.join("tebibyte"));
    File::create(&image)?.set_len(1 << 40)?;
    let store = Store::open(&path)?;
    let begun = Instant::now();
    let mut root = store.import(&*image::open(&image)?, &ImportOptions::default(), &Quiet)?.root;
    let imported = begun.elapsed();
    store.claim(&root)?;
    for number in 1..DEPTH as u64 {
        let name = DraftName::new(&format!("tebibyte.{number}"))?;
        let draft = store.create_draft(&name, &root)?;
        (0..16).try_for_each(|at| draft.write_at((at * 61 + number) << 30, &[number as u8; 4096]))?;
        root = draft.checkpoint(&Quiet)?.root;
        store.claim(&root)?;
        drop(draft);
        store.delete_draft(&name)?;
    }
    drop(store);
    let store = Store::open(&path)?;
    let (before, begun) = (anonymous_kib()?, Instant::now());
    let version = store.version(&root)?;
    let (took, grown) = (begun.elapsed(), anonymous_kib()?.saturating_sub(before));
    ensure!(version.layers().len() == DEPTH && version.size_bytes() == 1 << 40, "not what was made");
    Ok(format!(
        "1 TiB, sparse: imported in {:.2} s; with 50 versions opened in {:.0} ms, {} MiB of memory",
        imported.as_secs_f64(),
        took.as_secs_f64() * 1e3,
        grown / 1024
    ))
}

fn anonymous_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()).context("no RssAnon")?;
    Ok(number.parse()?)
}
