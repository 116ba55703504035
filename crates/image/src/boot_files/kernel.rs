//! Chooses the newest kernel that has an initrd.
//!
//! Two ways to find them: names beside each other (`vmlinuz-VERSION` with `initrd.img-VERSION`,
//! `initramfs-VERSION.img` or `initrd-VERSION`) in `/boot`, `/` or a separate boot partition; and
//! the entries of the Boot Loader Specification (type 1), which systemd-boot and Fedora write.
//! Unified kernel images are not taken apart here.

use super::tree::Tree;
use super::{BootFilesError, Volume};
use std::cmp::Ordering;

/// The most bytes of a kernel; distributions' are 5 to 20 MB.
pub(super) const KERNEL_LIMIT: u64 = 128 << 20;
/// The most bytes of an initrd; the largest generic ones have about 150 MB.
pub(super) const INITRD_LIMIT: u64 = 1 << 30;
/// The most bytes of a boot loader entry or of fstab.
const TEXT_LIMIT: u64 = 1 << 20;
const INITRD_NAMES: [&str; 4] =
    ["initrd.img-VERSION", "initramfs-VERSION.img", "initrd-VERSION", "initrd-VERSION.img"];
/// Left behind by package managers and by hand.
const STALE_SUFFIXES: [&str; 5] = [".old", ".bak", ".dpkg-bak", ".dpkg-new", ".rpmsave"];

/// A kernel with its initrd.
pub(super) struct Pair<'a> {
    /// The kernel's release.
    pub(super) version: String,
    /// The file system that has both.
    pub(super) tree: &'a Tree,
    /// The kernel's path there.
    pub(super) kernel_path: String,
    /// The initrd's path there.
    pub(super) initrd_path: String,
    /// The entry's options, where there is an entry.
    pub(super) options: String,
}

/// The newest pair in the first place that has one: the boot partition that the root's fstab
/// names, the root itself, then any other partition.
pub(super) fn choose<'a>(root: &'a Volume, volumes: &'a [Volume]) -> Result<Pair<'a>, BootFilesError> {
    let fstab = root.tree.read_text("/etc/fstab", TEXT_LIMIT)?.unwrap_or_default();
    let mut lonely: Option<String> = None;
    for volume in search_order(root, volumes, &fstab) {
        let mut pairs = entries(&volume.tree)?;
        for directory in ["/boot", "/"] {
            pairs.extend(named_pairs(&volume.tree, directory, &mut lonely)?);
        }
        pairs.sort_by(|a, b| compare_versions(&a.version, &b.version));
        if let Some(newest) = pairs.pop() {
            return Ok(newest);
        }
    }
    Err(match lonely {
        Some(kernel_version) => BootFilesError::NoInitrd {
            looked_for: INITRD_NAMES.join(", ").replace("VERSION", &kernel_version),
            kernel_version,
        },
        None => BootFilesError::NoKernel {
            looked_for: "vmlinuz-VERSION in /boot, in / and on a separate boot partition, and \
                         entries in loader/entries"
                .to_owned(),
        },
    })
}

fn search_order<'a>(root: &'a Volume, volumes: &'a [Volume], fstab: &str) -> Vec<&'a Volume> {
    let boot_devices: Vec<&str> = fstab
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(1) == Some(&"/boot"))
        .map(|fields| fields[0])
        .collect();
    let is_boot = |volume: &&Volume| boot_devices.iter().any(|device| is_device(volume, device));
    let others = volumes.iter().filter(|volume| !std::ptr::eq(*volume, root));
    let mut order: Vec<&Volume> = others.clone().filter(is_boot).collect();
    order.push(root);
    order.extend(others.filter(|volume| !is_boot(volume)));
    order
}

fn is_device(volume: &Volume, device: &str) -> bool {
    let (key, value) = device.split_once('=').unwrap_or((device, ""));
    let value = value.trim_matches('"').to_lowercase();
    match key {
        "UUID" => volume.tree.uuid() == Some(value),
        "PARTUUID" => volume.partition.part_uuid == Some(value),
        _ => false,
    }
}

fn named_pairs<'a>(
    tree: &'a Tree,
    directory: &str,
    lonely: &mut Option<String>,
) -> Result<Vec<Pair<'a>>, BootFilesError> {
    let names = tree.list(directory)?;
    let prefix = directory.trim_end_matches('/');
    let mut pairs = Vec::new();
    for version in names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")) {
        if !is_version(version) {
            continue;
        }
        let initrd = INITRD_NAMES
            .map(|pattern| pattern.replace("VERSION", version))
            .into_iter()
            .find(|name| names.contains(name));
        match initrd {
            Some(initrd) => pairs.push(Pair {
                version: version.to_owned(),
                tree,
                kernel_path: format!("{prefix}/vmlinuz-{version}"),
                initrd_path: format!("{prefix}/{initrd}"),
                options: String::new(),
            }),
            None if is_newer(version, lonely.as_deref()) => *lonely = Some(version.to_owned()),
            None => {}
        }
    }
    Ok(pairs)
}

/// The pairs that `loader/entries/*.conf` name.
fn entries(tree: &Tree) -> Result<Vec<Pair<'_>>, BootFilesError> {
    let mut pairs = Vec::new();
    for directory in ["/loader/entries", "/boot/loader/entries"] {
        let names = tree.list(directory)?;
        for name in names.iter().filter(|name| name.ends_with(".conf")) {
            if let Some(text) = tree.read_text(&format!("{directory}/{name}"), TEXT_LIMIT)? {
                pairs.extend(entry_pair(tree, &text)?);
            }
        }
    }
    Ok(pairs)
}

/// The pair that one entry names; none where a part of it is missing.
fn entry_pair<'a>(tree: &'a Tree, text: &str) -> Result<Option<Pair<'a>>, BootFilesError> {
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let (found, rest) = line.trim().split_once(char::is_whitespace)?;
            (found == key).then(|| rest.trim().to_owned())
        })
    };
    let (Some(kernel), Some(initrd)) = (value("linux"), value("initrd")) else { return Ok(None) };
    let file_name = kernel.rsplit('/').next().unwrap_or_default();
    let from_name = file_name.strip_prefix("vmlinuz-").map(str::to_owned);
    let Some(version) = from_name.or_else(|| value("version")).filter(|text| is_version(text)) else {
        return Ok(None);
    };
    // An entry's paths are relative to its own file system, which is /boot in a running system.
    for prefix in ["", "/boot"] {
        let kernel_path = format!("{prefix}/{}", kernel.trim_start_matches('/'));
        let initrd_path = format!("{prefix}/{}", initrd.trim_start_matches('/'));
        if tree.exists(&kernel_path)? && tree.exists(&initrd_path)? {
            let options = value("options").unwrap_or_default();
            return Ok(Some(Pair { version, tree, kernel_path, initrd_path, options }));
        }
    }
    Ok(None)
}

/// Whether a text is a kernel's release: it becomes part of paths and of messages.
fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-~".contains(c))
        && !STALE_SUFFIXES.iter().any(|suffix| text.ends_with(suffix))
}

fn is_newer(version: &str, than: Option<&str>) -> bool {
    than.is_none_or(|than| compare_versions(version, than) == Ordering::Greater)
}

/// Orders releases: runs of digits as numbers, everything else as text; a pre-release (`-rc1`)
/// comes before its release.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a_parts, mut b_parts) = (parts(a), parts(b));
    loop {
        match (a_parts.next(), b_parts.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(part)) => return if is_pre(&part) { Ordering::Greater } else { Ordering::Less },
            (Some(part), None) => return if is_pre(&part) { Ordering::Less } else { Ordering::Greater },
            (Some(a_part), Some(b_part)) if a_part != b_part => return a_part.cmp(&b_part),
            _ => {}
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Text(&'a str),
    Number(u64),
}

fn is_pre(part: &Part<'_>) -> bool {
    matches!(part, Part::Text(text) if text.starts_with("-rc") || text.starts_with('~'))
}

fn parts(version: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = version;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let is_digit = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(if is_digit { Part::Number(part.parse().unwrap_or(u64::MAX)) } else { Part::Text(part) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_kernels_sort_after_older_ones() {
        let ordered = ["0-rescue-abc", "5.10.0-9-amd64", "5.10.0-28-amd64", "6.1.0-rc1", "6.1.0", "6.1.0-37"];
        for pair in ordered.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn a_version_is_never_a_path() {
        assert!(is_version("6.12.0-1-cloud-amd64+deb13"));
        for bad in ["", "../6.1", "6.1/..", "6.1.0.old", "x6", "6 1"] {
            assert!(!is_version(bad), "{bad:?}");
        }
    }
}
