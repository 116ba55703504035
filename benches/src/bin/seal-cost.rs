//! A checkpoint against `qemu-img commit`: the same scattered changes on the same disk.
//!
//! The disk has 40 GiB of addresses and some GiB of real content. The same changes (4 KiB to 1 MiB
//! at random places) are written to a draft and to a qcow2 overlay, untimed and synced on both
//! sides. Timed is what makes them part of an immutable base, until it is durable. qemu-img writes
//! into its base in place, ours keeps both states and names the new one by its hashes. The bars:
//! ours takes no longer, and reads and writes only what was changed (whole chunks of it).

use anyhow::{Context, Result, ensure};
use clap::Parser;
use headwater_benches::child::{median, run};
use headwater_benches::real_image;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use store::files::simulated::Numbers;
use store::{Checkpoint, DraftName, ImportOptions, Quiet, Store};

#[derive(Parser)]
struct Arguments {
    /// Where everything goes; needs 8 GiB.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// How often each side runs.
    #[arg(long, default_value_t = 3)]
    runs: u64,
    /// The real content in MiB (a part of it is holes).
    #[arg(long, default_value_t = 2048)]
    content_mib: u64,
    /// The changes in MiB.
    #[arg(long, default_value_t = 1024)]
    changes_mib: u64,
}

/// The addresses of the disk in bytes.
const DISK_BYTES: u64 = 40 << 30;

/// A write.
struct Change {
    offset: u64,
    len: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    fs::create_dir_all(&arguments.directory)?;
    // A backing file's relative path would be read from the overlay's directory.
    let work = arguments.directory.canonicalize()?.join("seal-cost.work");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let content = real_image::prepare(&arguments.directory, arguments.content_mib << 20)?;
    let base = work.join("base.raw");
    run(Command::new("cp").arg("--sparse=always").args([&content, &base]))?;
    File::options().write(true).open(&base)?.set_len(DISK_BYTES)?;
    let store = Store::open(&work.join("store"))?;
    let options = ImportOptions { reserve_bytes: 0, ..ImportOptions::default() };
    let root = store.import(&*image::open(&base)?, &options, &Quiet)?.root;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..arguments.runs {
        eprintln!("round {} of {}", round + 1, arguments.runs);
        let changes = changes(round, arguments.changes_mib << 20, arguments.content_mib << 20);
        ours.push(checkpoint(&store, &root, &changes, &content)?);
        theirs.push(commit(&work, &base, &changes, &content)?);
    }
    drop(store);
    fs::remove_dir_all(&work)?;
    report(&arguments, &ours, &theirs)
}

/// Changes of 4 KiB to 1 MiB: half of them where the content is, half anywhere.
fn changes(seed: u64, total: u64, content: u64) -> Vec<Change> {
    let mut numbers = Numbers::new(seed);
    let (mut sum, mut changes) = (0, Vec::new());
    while sum < total {
        let len = 4096 * (1 + numbers.below(256));
        let within = if numbers.one_in(2) { content } else { DISK_BYTES };
        changes.push(Change { offset: numbers.below((within - len) / 4096) * 4096, len });
        sum += len;
    }
    changes
}

/// The bytes of a change: a piece of the real content from another place.
fn bytes_of(change: &Change, content: &File, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.resize(change.len as usize, 0);
    let from = (change.offset / 4096 * 7919 * 4096) % (content.metadata()?.len() - change.len);
    content.read_exact_at(buffer, from)?;
    // No two changes are the same, and none is zero.
    buffer.chunks_mut(4096).for_each(|block| block[..8].copy_from_slice(&(change.offset | 1).to_le_bytes()));
    Ok(())
}

/// Writes the changes to a draft, untimed, and times its checkpoint.
fn checkpoint(
    store: &Store,
    root: &model::Root,
    changes: &[Change],
    content: &Path,
) -> Result<(Duration, Checkpoint)> {
    let name = DraftName::new("seal-cost.2")?;
    let draft = store.create_draft(&name, root)?;
    let (content, mut buffer) = (File::open(content)?, Vec::new());
    for change in changes {
        bytes_of(change, &content, &mut buffer)?;
        draft.write_at(change.offset, &buffer)?;
    }
    draft.flush()?;
    run(&mut Command::new("sync"))?;
    let start = Instant::now();
    let checkpoint = draft.checkpoint(&Quiet)?;
    let took = start.elapsed();
    drop(draft);
    store.delete_draft(&name)?;
    store.delete(&checkpoint.root)?;
    run(&mut Command::new("sync"))?;
    Ok((took, checkpoint))
}

/// Writes the changes to a qcow2 overlay, untimed, and times its commit into a raw base.
fn commit(work: &Path, base: &Path, changes: &[Change], content: &Path) -> Result<Duration> {
    let (copy, overlay) = (work.join("copy.raw"), work.join("overlay.qcow2"));
    run(Command::new("cp").arg("--sparse=always").args([base, &copy]))?;
    run(Command::new("qemu-img").args(["create", "-f", "qcow2", "-F", "raw", "-b"]).args([&copy, &overlay]))?;
    write_by_nbd(&overlay, changes, content)?;
    run(&mut Command::new("sync"))?;
    let start = Instant::now();
    run(Command::new("sh")
        .args(["-c", r#"qemu-img commit -q -d "$1" && sync "$2""#, "sh"])
        .args([&overlay, &copy]))?;
    let took = start.elapsed();
    fs::remove_file(&overlay)?;
    fs::remove_file(&copy)?;
    run(&mut Command::new("sync"))?;
    Ok(took)
}

/// qemu-io writes the changes into the overlay, each from a file with its bytes.
fn write_by_nbd(overlay: &Path, changes: &[Change], content: &Path) -> Result<()> {
    let source = overlay.with_extension("bytes");
    let (content, mut buffer) = (File::open(content)?, Vec::new());
    for batch in changes.chunks(64) {
        let mut command = Command::new("qemu-io");
        command.args(["-f", "qcow2", "-t", "writeback"]);
        let file = File::create(&source)?;
        let mut at = 0;
        for change in batch {
            bytes_of(change, &content, &mut buffer)?;
            let path = source.with_extension(format!("{at}"));
            fs::write(&path, &buffer)?;
            command.arg("-c").arg(format!("write -s {} {} {}", path.display(), change.offset, change.len));
            at += 1;
        }
        drop(file);
        run(command.arg(overlay)).context("qemu-io cannot write the changes")?;
        (0..at).try_for_each(|at| fs::remove_file(source.with_extension(format!("{at}"))))?;
    }
    Ok(fs::remove_file(&source)?)
}

fn report(arguments: &Arguments, ours: &[(Duration, Checkpoint)], theirs: &[Duration]) -> Result<()> {
    for ((took, checkpoint), commit) in ours.iter().zip(theirs) {
        println!(
            "checkpoint {:.2} s: {} chunks, {} MiB read, {} MiB written; qemu-img commit {:.2} s",
            took.as_secs_f64(),
            checkpoint.changed_chunks,
            checkpoint.bytes_read >> 20,
            checkpoint.bytes_written >> 20,
            commit.as_secs_f64(),
        );
    }
    let mine = median(&ours.iter().map(|(took, _)| *took).collect::<Vec<_>>());
    let peer = median(theirs);
    let (_, last) = ours.last().context("no run")?;
    let chunks = u64::from(last.changed_chunks) * u64::from(model::CHUNK_SIZE);
    println!(
        "seal-cost: {} MiB of changes on 40 GiB: durable in {:.2} s, {} MiB read and {} MiB written; qemu-img commit {:.2} s: {:.2} of its time",
        arguments.changes_mib,
        mine.as_secs_f64(),
        last.bytes_read >> 20,
        last.bytes_written >> 20,
        peer.as_secs_f64(),
        mine.as_secs_f64() / peer.as_secs_f64(),
    );
    ensure!(last.bytes_read <= 2 * chunks, "the bar is missed: more was read than what was changed");
    ensure!(last.bytes_written <= chunks, "the bar is missed: more was written than what was changed");
    ensure!(mine <= peer, "the bar is missed: a checkpoint must take no longer than qemu-img commit");
    Ok(())
}
