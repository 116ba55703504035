//! What `headwater lab` can be told.

use clap::Args;
use model::Name;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most machines: with TCG more than eight on one host take minutes each.
const MAX_MACHINES: i64 = 8;
/// The most servers: each boots a machine of its own, and this is one computer.
const MAX_SERVERS: i64 = 5;
/// The least memory in MiB that a Debian kernel, its initrd and a small write cache fit into.
const MIN_MEMORY_MIB: i64 = 384;

/// Shows Headwater on this machine: a server and diskless machines in QEMU, without root.
///
/// Imports the image, boots the machines from it over the network and shows how far each has come.
/// Everything is in a temporary folder and on this machine's loopback; Ctrl-C ends it all.
#[derive(Args, Clone, Debug)]
pub(crate) struct Lab {
    /// The disk image that the machines boot: a Linux, raw or qcow2
    #[arg(long, value_name = "FILE")]
    pub(super) image: PathBuf,
    /// The agent that goes into the machines' initrd
    #[arg(long, value_name = "FILE")]
    pub(super) agent: PathBuf,
    /// How many servers; several are one farm with its records in etcd, which must be installed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_SERVERS))]
    pub(super) servers: u8,
    /// How many machines; none only with several servers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=MAX_MACHINES))]
    pub(super) machines: u8,
    /// Memory of each machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 640, value_parser = clap::value_parser!(u32).range(MIN_MEMORY_MIB..))]
    pub(super) memory: u32,
    /// Reboots the machines, checks that what they wrote is gone, and ends: 0 = it is. With several
    /// servers: kills one, boots from another, checks that what was new comes to it when it is back
    #[arg(long)]
    pub(super) once: bool,
    /// How long --once may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(super) timeout: u64,
    /// Uses this folder, which must be new or empty, and leaves it behind
    #[arg(long, value_name = "DIR")]
    pub(super) keep: Option<PathBuf>,
}

impl Lab {
    /// How long the machines may take; without `--once` somebody is watching.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.once.then(|| Duration::from_secs(self.timeout))
    }

    /// The most that a machine's write cache may hold: a quarter of its memory is left to Linux
    /// as working memory beside cache and page cache, by eye.
    pub(super) fn cache_mib(&self) -> u32 {
        self.memory / 4
    }
}

/// The vDisk's name: the image's file name as far as it is a name.
pub(super) fn vdisk_name(image: &Path) -> Name {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let known = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    let text: String = stem.chars().map(known).collect();
    let text: String = text.trim_start_matches(['.', '-', '_']).chars().take(MAX_VDISK_NAME).collect();
    Name::new(text.trim_end_matches(['.', '-', '_'])).unwrap_or_else(|_| Name::new("lab").expect("a name"))
}

/// The longest vDisk name made of a file's: tables stay readable.
const MAX_VDISK_NAME: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: Lab,
    }

    fn parse(more: &[&str]) -> Result<Lab, clap::Error> {
        let args = ["lab", "--image", "i", "--agent", "a"].iter().chain(more);
        Cli::try_parse_from(args).map(|cli| cli.lab)
    }

    #[test]
    fn two_machines_are_the_default_and_only_once_has_a_time_out() {
        let lab = parse(&[]).unwrap();
        assert_eq!((lab.machines, lab.memory, lab.patience()), (2, 640, None));
        assert_eq!(lab.servers, 1);
        assert_eq!(parse(&["--once"]).unwrap().patience(), Some(Duration::from_secs(600)));
    }

    #[test]
    fn numbers_that_cannot_work_are_refused() {
        assert!(parse(&["--machines", "9"]).is_err());
        assert!(parse(&["--memory", "64"]).is_err());
        assert!(parse(&["--servers", "0"]).is_err());
        assert!(parse(&["--servers", "6"]).is_err());
    }

    #[test]
    fn any_file_name_makes_a_vdisk_name() {
        let name = |path: &str| vdisk_name(Path::new(path)).to_string();
        assert_eq!(name("/x/debian-initramfs-0123456789abcdef.raw"), "debian-initramfs-0123456");
        assert_eq!(name("Windows 11 (lab).qcow2"), "windows-11--lab");
        assert_eq!(name("/"), "lab");
        assert_eq!(name("---.raw"), "lab");
    }
}
