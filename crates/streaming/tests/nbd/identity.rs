//! Clients that we did not write: nbdcopy, qemu-img, nbdinfo, fio (the long form is
//! `cargo xtask show nbd-identity`). They must be installed: libnbd-bin, qemu-utils, fio.

use crate::support::*;
use disk::{FileDisk, MappedCache, MemoryDisk, RamCache};
use headwater_streaming::NbdServer;
use model::DiskSize;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

const MIB: usize = 1 << 20;

struct Scene {
    directory: tempfile::TempDir,
    image: PathBuf,
    uri: String,
    _server: NbdServer,
}

/// A raw image with a hole, served as "disk", and a write cache served as "cache".
fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image.raw");
    let file = fs::File::create_new(&image).unwrap();
    file.set_len(24 * MIB as u64).unwrap();
    file.write_all_at(&pattern(5 * MIB), 0).unwrap();
    file.write_all_at(&pattern(3 * MIB), 20 * MIB as u64).unwrap();
    let size = DiskSize::new(24 * MIB as u64).unwrap();
    let disk = FileDisk::new(fs::File::open(&image).unwrap(), size, MappedCache::new(1 << 30)).unwrap();
    let cache = RamCache::new(MemoryDisk::fixed(vec![0; 64 * MIB]), 256 * MIB as u64);
    let (server, address) = start(&Arc::new(Disks::one("disk", disk).and("cache", cache)));
    Scene { directory, image, uri: format!("nbd://{address}"), _server: server }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| {
        panic!("cannot run {program}: {error}\nhint: apt-get install libnbd-bin qemu-utils fio")
    })
}

fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn nbdcopy_brings_the_same_bytes() {
    let scene = scene();
    let copy = scene.directory.path().join("copy.raw");
    succeed("nbdcopy", &[&format!("{}/disk", scene.uri), copy.to_str().unwrap()]);
    assert!(fs::read(copy).unwrap() == fs::read(&scene.image).unwrap());
}

#[test]
fn qemu_img_finds_no_difference() {
    let scene = scene();
    let (image, uri) = (scene.image.to_str().unwrap(), format!("{}/disk", scene.uri));
    let said = succeed("qemu-img", &["compare", "-f", "raw", "-F", "raw", image, &uri]);
    assert!(said.contains("identical"), "{said}");
}

#[test]
fn nbdinfo_sees_the_abilities_and_the_holes() {
    let scene = scene();
    let (disk, cache) = (format!("{}/disk", scene.uri), format!("{}/cache", scene.uri));
    for (ability, of_disk, of_cache) in
        [("multi-conn", true, true), ("write", false, true), ("trim", false, true), ("df", true, true)]
    {
        assert_eq!(run("nbdinfo", &["--can", ability, &disk]).status.success(), of_disk, "{ability}");
        assert_eq!(run("nbdinfo", &["--can", ability, &cache]).status.success(), of_cache, "{ability}");
    }
    let totals = succeed("nbdinfo", &["--map", "--totals", &disk]);
    assert!(totals.contains("hole,zero") && totals.contains("data"), "{totals}");
    assert!(!run("nbdinfo", &["--size", &format!("{}/other", scene.uri)]).status.success());
}

#[test]
fn fio_reads_back_what_it_wrote() {
    let scene = scene();
    let uri = format!("--uri={}/cache", scene.uri);
    let job = "--name=v --ioengine=nbd --rw=randrw --bsrange=512-32k --size=16m --iodepth=32 --verify=crc32c \
               --verify_state_save=0 --do_verify=1 --verify_fatal=1 --randseed=1";
    let mut arguments: Vec<&str> = job.split_whitespace().collect();
    arguments.push(&uri);
    succeed("fio", &arguments);
}
