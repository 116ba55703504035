//! The distribution's iPXE, as files for TFTP and HTTP.
//!
//! Ours are the scripts; the loader is the package `ipxe` (DESIGN section 8), so that its fixes
//! arrive with the system's updates. Read once at start: the largest has a megabyte.

use bytes::Bytes;
use protocol::dhcp::Architecture;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where Debian and Ubuntu install them.
pub const DEFAULT_DIRECTORY: &str = "/usr/lib/ipxe";
/// Larger files are no loaders.
const SIZE_LIMIT: u64 = 16 << 20;
/// What each architecture is given. `snponly.efi` uses the firmware's own network driver: it
/// starts in 0.03 s where `ipxe.efi` takes 4 s.
const WANTED: [(Architecture, &str); 2] =
    [(Architecture::Bios, "undionly.kpxe"), (Architecture::UefiX64, "snponly.efi")];
/// Served to those who ask by name.
const ALSO: [&str; 2] = ["ipxe.efi", "ipxe.pxe"];

/// The loaders of one directory.
#[derive(Clone, Debug, Default)]
pub struct Loaders {
    /// Every file by its name.
    pub files: BTreeMap<String, Bytes>,
    /// The file's name for each architecture that has one.
    pub by_architecture: BTreeMap<Architecture, String>,
    /// What an admin should hear of.
    pub problems: Vec<LoaderProblem>,
}

/// A loader that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no loader for {architecture} devices: {} {reason}\nhint: apt-get install ipxe",
    path.display()
)]
pub struct LoaderProblem {
    /// Who cannot boot from a plain ROM.
    pub architecture: Architecture,
    /// The file that was looked for.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Loaders {
    /// Reads what there is in `directory`; devices whose ROM is an iPXE boot without any of it.
    pub fn read(directory: &Path) -> Self {
        let mut loaders = Self::default();
        for (architecture, name) in WANTED {
            let path = directory.join(name);
            match read_bounded(&path) {
                Ok(bytes) => {
                    loaders.files.insert(name.to_owned(), bytes);
                    loaders.by_architecture.insert(architecture, name.to_owned());
                }
                Err(reason) => loaders.problems.push(LoaderProblem { architecture, path, reason }),
            }
        }
        for name in ALSO {
            if let Ok(bytes) = read_bounded(&directory.join(name)) {
                loaders.files.insert(name.to_owned(), bytes);
            }
        }
        loaders
    }
}

fn read_bounded(path: &Path) -> Result<Bytes, String> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "is missing".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    if !metadata.is_file() || metadata.len() > SIZE_LIMIT {
        return Err("is not a loader".to_owned());
    }
    std::fs::read(path).map(Bytes::from).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_package_is_named_for_each_architecture() {
        let directory = tempfile::tempdir().unwrap();
        let loaders = Loaders::read(directory.path());
        assert_eq!(loaders.problems.len(), 2);
        let text = loaders.problems[0].to_string();
        assert!(text.starts_with("no loader for BIOS devices: "), "{text}");
        assert!(text.ends_with("undionly.kpxe is missing\nhint: apt-get install ipxe"), "{text}");
    }

    #[test]
    fn what_is_there_is_served() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("snponly.efi"), b"MZ").unwrap();
        let loaders = Loaders::read(directory.path());
        assert_eq!(loaders.by_architecture[&Architecture::UefiX64], "snponly.efi");
        assert_eq!(loaders.files["snponly.efi"], "MZ");
        assert_eq!(loaders.problems.len(), 1);
    }
}
