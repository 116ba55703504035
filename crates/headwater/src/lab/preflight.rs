//! What the lab needs, looked for before anything is started.

use super::trouble::Trouble;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The emulator.
const QEMU: &str = "qemu-system-x86_64";
/// What keeps the records of several servers.
const ETCD: &str = "etcd";

/// Looks for the emulator. Its iPXE ROM is looked for by QEMU itself, which knows best where its
/// build keeps it: see `machine.rs`.
pub(super) fn find_qemu() -> Result<PathBuf, Trouble> {
    find_program(QEMU, &path()).ok_or_else(no_qemu)
}

/// Looks for etcd.
pub(super) fn find_etcd() -> Result<PathBuf, Trouble> {
    find_program(ETCD, &path()).ok_or_else(|| {
        Trouble::new(
            format!("{ETCD} is not installed: several servers keep their records in it"),
            "apt-get install etcd-server (Debian, Ubuntu); dnf install etcd (Fedora); or leave out --servers",
        )
    })
}

fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Checks that there is something to see.
pub(super) fn check_numbers(servers: u8, machines: u8) -> Result<(), Trouble> {
    match (servers, machines) {
        (1, 0) => Err(Trouble::new(
            "a server without machines shows nothing",
            "give --machines 1 or more, or --servers 3 to see several servers",
        )),
        _ => Ok(()),
    }
}

/// Checks the image: a file that can be read and holds something.
pub(super) fn check_image(path: &Path) -> Result<(), Trouble> {
    let hint =
        "make one with `cargo xtask image debian-initramfs`, or give any raw or qcow2 image of a Linux";
    match beginning(path) {
        Ok(bytes) if bytes.is_empty() => {
            Err(Trouble::new(format!("the image {} is empty", path.display()), hint))
        }
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Trouble::new(format!("the image {} cannot be read: {error}", path.display()), hint))
        }
    }
}

/// Checks the agent: a Linux program.
pub(super) fn check_agent(path: &Path) -> Result<(), Trouble> {
    let hint = "`cargo xtask build` makes the agent: target/headwater/headwater-agent";
    match beginning(path) {
        Ok(bytes) if bytes.starts_with(b"\x7fELF") => Ok(()),
        Ok(_) => Err(Trouble::new(format!("{} is no Linux program", path.display()), hint)),
        Err(error) => {
            Err(Trouble::new(format!("the agent {} cannot be read: {error}", path.display()), hint))
        }
    }
}

fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn no_qemu() -> Trouble {
    Trouble::new(
        format!("{QEMU} is not installed: the lab's machines run in it"),
        "apt-get install qemu-system-x86 ipxe-qemu (Debian, Ubuntu); dnf install qemu-system-x86 (Fedora)",
    )
}

fn beginning(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn an_image_that_is_not_there_or_empty_is_refused_with_a_hint() {
        assert_eq!(check_image(file(b"x").path()), Ok(()));
        let missing = check_image(Path::new("/no/such.img")).unwrap_err().to_string();
        assert!(missing.contains("/no/such.img") && missing.contains("cargo xtask image"), "{missing}");
        assert!(check_image(file(b"").path()).unwrap_err().to_string().contains("is empty"));
        assert!(check_image(Path::new("/")).is_err());
    }

    #[test]
    fn an_agent_that_is_no_program_is_refused_with_a_hint() {
        assert_eq!(check_agent(file(b"\x7fELF...").path()), Ok(()));
        let script = check_agent(file(b"#!/bin/sh").path()).unwrap_err().to_string();
        assert!(script.contains("cargo xtask build"), "{script}");
        assert!(check_agent(Path::new("/no/such")).is_err());
    }

    #[test]
    fn the_emulator_is_found_on_the_path_only() {
        assert_eq!(find_program(QEMU, OsStr::new("/no/such:/nor/this")), None);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(QEMU), b"").unwrap();
        assert_eq!(find_program(QEMU, dir.path().as_os_str()), Some(dir.path().join(QEMU)));
    }

    #[test]
    fn one_server_alone_is_refused() {
        assert!(check_numbers(1, 0).unwrap_err().to_string().contains("--servers"));
        assert_eq!((check_numbers(1, 1), check_numbers(3, 0)), (Ok(()), Ok(())));
    }

    #[test]
    fn what_is_missing_names_its_package() {
        assert!(no_qemu().to_string().contains("qemu-system-x86"));
    }
}
