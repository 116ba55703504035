//! Small disk images for this crate's tests, made by the system's own tools without root.

use crate::reader::{ImageError, ImageReader, Run, RunKind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// An image in memory.
pub(crate) struct Memory(pub(crate) Vec<u8>);

impl ImageReader for Memory {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError> {
        Ok(Run { len: limit.min(self.size_bytes() - offset), kind: RunKind::Data })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        let start = offset as usize;
        buffer.copy_from_slice(&self.0[start..start + buffer.len()]);
        Ok(())
    }
}

/// A reader over `bytes`.
pub(crate) fn image(bytes: Vec<u8>) -> Arc<dyn ImageReader> {
    Arc::new(Memory(bytes))
}

/// Writes files with their directories below `root`; a content that begins with `->` is a link.
pub(crate) fn tree(root: &Path, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix(b"->") {
            Some(target) => {
                let target = std::str::from_utf8(target).unwrap();
                std::os::unix::fs::symlink(target, &path).unwrap();
            }
            None => std::fs::write(&path, content).unwrap(),
        }
    }
}

/// An ext4 file system of `mib` MiB with the given UUID and the content of `root`.
pub(crate) fn ext4(root: &Path, mib: u64, uuid: &str) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(mib << 20).unwrap();
    let root = root.to_str().unwrap();
    let path = file.path().to_str().unwrap();
    run("mke2fs", &["-q", "-t", "ext4", "-U", uuid, "-d", root, path], "", "e2fsprogs");
    std::fs::read(file.path()).unwrap()
}

/// A FAT file system of `mib` MiB with these files.
pub(crate) fn fat(mib: u64, files: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::{Cursor, Write};
    let mut disk = Cursor::new(vec![0; (mib << 20) as usize]);
    let options = fatfs::FormatVolumeOptions::new().volume_id(0x12ab_34cd);
    fatfs::format_volume(&mut disk, options).unwrap();
    disk.set_position(0);
    let fat = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new()).unwrap();
    for (path, content) in files {
        let root = fat.root_dir();
        let mut directory = root;
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            directory = directory.create_dir(part).unwrap();
        }
        directory.create_file(name).unwrap().write_all(content).unwrap();
    }
    drop(fat);
    disk.into_inner()
}

/// A disk of `mib` MiB with a table that sfdisk makes from `script`, and partitions' bytes at
/// their offsets in MiB.
pub(crate) fn disk(mib: u64, script: &str, parts: &[(u64, &[u8])]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(mib << 20).unwrap();
    run("sfdisk", &["-q", file.path().to_str().unwrap()], script, "fdisk");
    let mut bytes = std::fs::read(file.path()).unwrap();
    for (offset, part) in parts {
        let start = (offset << 20) as usize;
        bytes[start..start + part.len()].copy_from_slice(part);
    }
    bytes
}

fn run(program: &str, arguments: &[&str], input: &str, package: &str) {
    use std::io::Write;
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; hint: apt-get install {package}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {arguments:?} failed");
}
