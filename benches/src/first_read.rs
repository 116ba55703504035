//! How long after a version is there on one server its first block can be read on another one.
//!
//! Two real servers on one etcd. On pvs01 a sparse image is imported, and then a second version is
//! written, sealed and promoted; each time the clock runs from the moment that pvs01 has told its
//! client so until a block of the new content has been read from pvs02 over NBD, with the session
//! opened there in between. A client asks again every few milliseconds until it is let in.

use crate::nbd::boot_script::Numbers;
use crate::real_farm::Farm;
use crate::real_server::Server;
use crate::rest::Rest;
use crate::version_kill::writer::{Request, Writer};
use anyhow::{Context, Result, ensure};
use protocol::nbd::Command;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The vDisk that is made.
pub(crate) const VDISK: &str = "disk";
const MIB: u64 = 1 << 20;
/// How often a client asks again.
const AGAIN: Duration = Duration::from_millis(2);
/// When a read that does not come counts as never.
const PATIENCE: Duration = Duration::from_secs(60);

/// A disk to try it with.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The disk, in MiB.
    pub disk_mib: u64,
    /// How much of it is data, spread over all of it, in MiB.
    pub data_mib: u64,
    /// What the second version changes, in MiB.
    pub changed_mib: u64,
}

/// What one disk showed.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// From the end of the import to the first block, its first version being new to pvs02.
    pub imported: FirstRead,
    /// From the end of the promotion to the first block.
    pub promoted: FirstRead,
}

/// How long it took until pvs02 had opened the session, and until the block was there.
#[derive(Clone, Copy, Debug)]
pub struct FirstRead {
    /// Until the session was open.
    pub opened: Duration,
    /// Until the block was read.
    pub read: Duration,
}

/// Tries each size on a farm of two in `directory`, which is left empty.
pub fn run(program: &Path, directory: &Path, sizes: &[Size]) -> Result<Vec<Shown>> {
    let farm = Farm::start(program, directory, 2)?;
    let shown = sizes.iter().map(|size| {
        let shown = try_size(&farm, *size);
        shown.with_context(|| {
            let (one, two) = (farm.server(0).last_lines(), farm.server(1).last_lines());
            format!("{size:?}\npvs01:\n{one}\npvs02:\n{two}")
        })
    });
    let shown = shown.collect::<Result<_>>()?;
    drop(farm);
    fs::remove_dir_all(directory)?;
    Ok(shown)
}

fn try_size(farm: &Farm, size: Size) -> Result<Shown> {
    let (one, two) = (farm.server(0), farm.server(1));
    let (mut here, mut there) = (Rest::of(&one.state())?, Rest::of(&two.state())?);
    let image = image(one, size)?;
    let job = here.call("POST", "/v1/vdisks", Some(&import(&image)))?.0;
    wait_for_job(&mut here, &job)?;
    let imported = first_read(&mut there, 1, size.offset(0), &block(0, 1))?;
    fs::remove_file(&image)?;
    let promoted = promote(one, &mut here, &mut there, size)?;
    take_away(two, &mut here, &mut there)?;
    Ok(Shown { imported, promoted })
}

impl Size {
    /// Where the n-th MiB of data begins.
    fn offset(&self, number: u64) -> u64 {
        number * (self.disk_mib / self.data_mib.max(1)) * MIB
    }
}

/// A MiB that no other one is like; `mark` is the version.
fn block(number: u64, mark: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(number << 8 | mark);
    (0..MIB / 8).flat_map(|_| (numbers.below(u64::MAX) | 1).to_le_bytes()).collect()
}

fn image(server: &Server, size: Size) -> Result<PathBuf> {
    let path = server.directory().join("disk.raw");
    let file = fs::File::create(&path)?;
    file.set_len(size.disk_mib * MIB)?;
    (0..size.data_mib).try_for_each(|number| file.write_all_at(&block(number, 1), size.offset(number)))?;
    Ok(path)
}

fn import(image: &Path) -> Value {
    json!({"name": VDISK, "path": image})
}

/// Waits until a client of pvs01 is told that the job is done.
pub(crate) fn wait_for_job(rest: &mut Rest, job: &Value) -> Result<()> {
    let path = format!("/v1/jobs/{}", job["id"]);
    let begun = Instant::now();
    loop {
        let job = rest.call("GET", &path, None)?.0;
        match job["state"].as_str() {
            Some("running") => {}
            Some("done") => return Ok(()),
            _ => anyhow::bail!("the job failed: {job}"),
        }
        ensure!(begun.elapsed() < PATIENCE * 10, "a job does not end: {job}");
        std::thread::sleep(AGAIN);
    }
}

/// Asks pvs02 for the version until a block of it is there.
pub(crate) fn first_read(there: &mut Rest, version: u64, offset: u64, expected: &[u8]) -> Result<FirstRead> {
    let begun = Instant::now();
    let wanted = json!({"vdisk": VDISK, "version": version});
    let opened = loop {
        match there.call("POST", "/v1/sessions", Some(&wanted)) {
            Ok((opened, _)) => break opened,
            Err(error) => ensure!(begun.elapsed() < PATIENCE, "pvs02 never opened it: {error}"),
        }
        std::thread::sleep(AGAIN);
    };
    let opened_after = begun.elapsed();
    let mut reader = Writer::open(opened["uri"].as_str().context("a session has an address")?)?;
    let mut found = vec![0; 4096];
    reader.read(offset, &mut found)?;
    let took = FirstRead { opened: opened_after, read: begun.elapsed() };
    ensure!(found == expected[..4096], "the block on pvs02 is not what pvs01 has");
    let id = opened["id"].as_str().context("a session has an id")?;
    there.call("DELETE", &format!("/v1/sessions/{id}"), None)?;
    Ok(took)
}

/// Writes a second version on pvs01 and promotes it; how long until pvs02 lets a block be read.
fn promote(one: &Server, here: &mut Rest, there: &mut Rest, size: Size) -> Result<FirstRead> {
    here.call("POST", &format!("/v1/vdisks/{VDISK}/versions"), Some(&json!({})))?;
    let opened =
        here.call("POST", "/v1/sessions", Some(&json!({"vdisk": VDISK, "version": 2, "write": true})))?.0;
    let mut writer = Writer::open(opened["uri"].as_str().context("a session has an address")?)?;
    for number in 0..size.changed_mib {
        let (offset, data) = (size.offset(number), block(number, 2));
        writer.change(&[Request { command: Command::Write, offset, len: MIB as u32, data }])?;
    }
    writer.flush()?;
    drop(writer);
    let id = opened["id"].as_str().context("a session has an id")?;
    here.call("DELETE", &format!("/v1/sessions/{id}"), None)?;
    one.run(&["version", "seal", VDISK, "2"])?;
    let path = format!("/v1/vdisks/{VDISK}/versions/2");
    let sealed = here.call("GET", &path, None)?.0;
    let body = json!({"to": "production", "root": sealed["root"], "production": 1});
    here.call("POST", &format!("{path}/promote"), Some(&body))?;
    let last = size.changed_mib - 1;
    first_read(there, 2, size.offset(last), &block(last, 2))
}

/// Deletes the vDisk and waits until pvs02 has let go of it.
fn take_away(two: &Server, here: &mut Rest, there: &mut Rest) -> Result<()> {
    let begun = Instant::now();
    while let Err(error) = here.call("DELETE", &format!("/v1/vdisks/{VDISK}"), None) {
        ensure!(begun.elapsed() < PATIENCE, "the vDisk cannot be deleted: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
    loop {
        let left = there.call("GET", "/v1/replication/backlog", None)?.0;
        if left.as_array().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "pvs02 still waits for it: {left}\n{}", two.last_lines());
        std::thread::sleep(Duration::from_millis(50));
    }
}
