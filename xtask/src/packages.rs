//! The system packages that the chores need, and how they get onto the machine.
//!
//! Debian and Ubuntu only; elsewhere the list is printed for the reader to install by hand. Says
//! nothing when everything is there.

use crate::process::{as_root, captured, exists, run};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// What a package is needed for; each level includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Compiling the workspace.
    Build,
    /// Making images and booting the lab's machines.
    Lab,
    /// The lab with several servers.
    LabFarm,
    /// Tests and measurements: namespaces, other people's clients and servers.
    Test,
}

struct Package {
    name: &'static str,
    purpose: Purpose,
    reason: &'static str,
}

const fn package(name: &'static str, purpose: Purpose, reason: &'static str) -> Package {
    Package { name, purpose, reason }
}

const PACKAGES: &[Package] = &[
    package("build-essential", Purpose::Build, "the linker, and a C compiler for the embedded SQLite"),
    package("protobuf-compiler", Purpose::Build, "compiles etcd's interface for the client (protoc)"),
    package("libprotobuf-dev", Purpose::Build, "the definitions that etcd's interface includes"),
    package("qemu-system-x86", Purpose::Lab, "the diskless machines"),
    package("ipxe-qemu", Purpose::Lab, "their network boot ROMs"),
    package("ipxe", Purpose::Lab, "the loader that the TFTP server hands out (undionly.kpxe)"),
    package("mmdebstrap", Purpose::Lab, "makes the Debian images"),
    package("debian-archive-keyring", Purpose::Lab, "the keys that mmdebstrap checks Debian with"),
    package("fakeroot", Purpose::Lab, "keeps root's ownership in images made without root"),
    package("uidmap", Purpose::Lab, "mmdebstrap without root (newuidmap)"),
    package("e2fsprogs", Purpose::Lab, "fills the image's ext4 (mke2fs -d)"),
    package("fdisk", Purpose::Lab, "partitions the image (sfdisk)"),
    package("etcd-server", Purpose::LabFarm, "the farm database of several servers"),
    package("iproute2", Purpose::Test, "bridges and links between namespaces (ip)"),
    package("nftables", Purpose::Test, "links between servers that lose packets (nft)"),
    package("util-linux", Purpose::Test, "namespaces for the end-to-end tests (unshare, nsenter)"),
    package("dnsmasq-base", Purpose::Test, "the foreign DHCP server beside our ProxyDHCP"),
    package("qemu-utils", Purpose::Test, "qemu-img as oracle for qcow2, qemu-nbd as peer"),
    package("libnbd-bin", Purpose::Test, "NBD clients that we did not write (nbdcopy, nbdinfo)"),
    package("fio", Purpose::Test, "its nbd engine as a client that we did not write"),
    package("nbdkit", Purpose::Test, "the peer that the NBD server is measured against"),
    package("nbd-server", Purpose::Test, "another peer"),
    package("ovmf", Purpose::Test, "UEFI firmware with a PXE of its own"),
    package("curl", Purpose::Test, "a TFTP and HTTP client that we did not write"),
    package("cpio", Purpose::Test, "reads the initrds that we write"),
    package("dracut-core", Purpose::Test, "lsinitrd as a second reader of initrds"),
    package("openssh-client", Purpose::Test, "reads the SSH host keys that we make (ssh-keygen)"),
    package("rsync", Purpose::Test, "the peer that replication is measured against"),
    package("syncthing", Purpose::Test, "another one"),
    package("casync", Purpose::Test, "another one"),
    package("nginx-light", Purpose::Test, "shows casync's chunks, and the bare delta, by HTTP"),
    package("busybox-static", Purpose::Test, "a user space for small test machines"),
];

/// Installs what is missing for `purpose`, asking for sudo where this process is not root.
pub(crate) fn install(purpose: Purpose) -> Result<()> {
    let missing = missing(purpose)?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("These system packages are missing and will be installed:");
    missing.iter().for_each(|package| eprintln!("  {:24} {}", package.name, package.reason));
    if !exists("apt-get") {
        bail!("no apt-get here\nhint: install what these packages contain by hand, then try again");
    }
    // A machine that was just made has no package lists, or old ones: only then are they fetched.
    if apt_install(&missing).is_err() {
        run(apt_get().arg("update")).context("apt-get update")?;
        apt_install(&missing).context("the packages above could not be installed")?;
    }
    Ok(())
}

fn missing(purpose: Purpose) -> Result<Vec<&'static Package>> {
    let wanted: Vec<_> = PACKAGES.iter().filter(|package| package.purpose <= purpose).collect();
    if !exists("dpkg-query") {
        return Ok(wanted);
    }
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"]);
    let answer = captured(query.args(wanted.iter().map(|package| package.name)))?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    let installed = |package: &&Package| {
        let line = format!("{} installed", package.name);
        answer.lines().any(|found| found == line)
    };
    Ok(wanted.into_iter().filter(|package| !installed(package)).collect())
}

fn apt_install(packages: &[&Package]) -> Result<()> {
    let mut command = apt_get();
    command.args(["install", "--yes", "--no-install-recommends"]);
    run(command.args(packages.iter().map(|package| package.name)))
}

fn apt_get() -> Command {
    let mut command = as_root("env");
    // Another apt on the machine is waited for: 300 s is by eye, longer than any one install.
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]);
    command
}
