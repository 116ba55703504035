//! The modules that bring a device as far as its streamed disk: `nbd` and network cards.
//!
//! Taken from the image's `/lib/modules/VERSION`, because a stock initrd may lack them (Debian's
//! with `MODULES=dep`, any dracut in host-only mode) and only the image has them for its kernel.

use super::tree::{Tree, TreeError};
use super::{BootFilesError, ModuleFile};
use std::collections::{BTreeMap, BTreeSet};

/// The most bytes of `modules.dep` or `modules.alias`; a full distribution kernel's have 2 MB.
const INDEX_LIMIT: u64 = 32 << 20;
/// The most bytes of one module; the largest network driver (mlx5_core) has about 6 MB.
const MODULE_LIMIT: u64 = 64 << 20;
/// What the streamed disk is attached by.
const DISK_MODULE: &str = "nbd";
/// Network cards of servers, desktops and hypervisors. `realtek` is the PHY that `r8169` needs
/// without depending on it by symbol (it is a soft dependency).
const NETWORK_MODULES: [&str; 24] = [
    "virtio_pci",
    "virtio_net",
    "e1000",
    "e1000e",
    "igb",
    "igc",
    "ixgbe",
    "i40e",
    "ice",
    "realtek",
    "r8169",
    "tg3",
    "bnx2",
    "bnxt_en",
    "mlx4_en",
    "mlx5_core",
    "vmxnet3",
    "hv_netvsc",
    "xen_netfront",
    "ena",
    "atlantic",
    "8139cp",
    "8139too",
    "gve",
];

/// Modules in load order, and how the kernel's hotplug names find them.
pub(super) struct Modules {
    /// Dependencies before what needs them.
    pub(super) files: Vec<ModuleFile>,
    /// The lines of `modules.alias` for `files`.
    pub(super) aliases: String,
}

/// Reads the wanted modules of one kernel.
pub(super) fn find(root: &Tree, version: &str) -> Result<Modules, BootFilesError> {
    let directory = module_directory(root, version)?;
    let text = |name: &str| root.read_text(&format!("{directory}/{name}"), INDEX_LIMIT);
    let dependencies = text("modules.dep")?.unwrap_or_default();
    let index = Index::parse(&dependencies);
    let builtin = text("modules.builtin")?.unwrap_or_default();
    let has_builtin_nbd = builtin.lines().any(|line| module_name(line) == DISK_MODULE);
    if !index.0.contains_key(DISK_MODULE) && !has_builtin_nbd {
        return Err(BootFilesError::NoNbdModule { kernel_version: version.to_owned() });
    }
    let mut files = Vec::new();
    for name in index.load_order() {
        files.extend(read_module(root, &directory, &index, name)?);
    }
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let aliases = matching_aliases(&text("modules.alias")?.unwrap_or_default(), &names);
    Ok(Modules { files, aliases })
}

fn module_directory(root: &Tree, version: &str) -> Result<String, TreeError> {
    let usual = format!("/lib/modules/{version}");
    Ok(if root.exists(&usual)? { usual } else { format!("/usr/lib/modules/{version}") })
}

fn read_module(
    root: &Tree,
    directory: &str,
    index: &Index<'_>,
    name: &str,
) -> Result<Option<ModuleFile>, BootFilesError> {
    let Some(entry) = index.0.get(name) else { return Ok(None) };
    let bytes = root.read(&format!("{directory}/{}", entry.path), MODULE_LIMIT)?;
    let depends = entry.depends.iter().map(|path| module_name(path)).collect();
    Ok(Some(ModuleFile { name: name.to_owned(), path: entry.path.to_owned(), bytes, depends }))
}

/// `modules.dep`: a line `PATH: PATH PATH...` for each module, all dependencies of all depths
/// in it, the deepest last (kmod's depmod writes them so that they load from right to left).
struct Index<'a>(BTreeMap<String, Entry<'a>>);

struct Entry<'a> {
    path: &'a str,
    depends: Vec<&'a str>,
}

impl<'a> Index<'a> {
    fn parse(text: &'a str) -> Self {
        let mut modules = BTreeMap::new();
        for line in text.lines() {
            let Some((path, depends)) = line.split_once(':') else { continue };
            let depends: Vec<&str> = depends.split_whitespace().collect();
            if is_module_path(path) && depends.iter().all(|path| is_module_path(path)) {
                modules.insert(module_name(path), Entry { path, depends });
            }
        }
        Self(modules)
    }

    /// The wanted modules' names, each after what it needs, none twice.
    fn load_order(&self) -> Vec<&str> {
        let mut order: Vec<&str> = Vec::new();
        for wanted in std::iter::once(DISK_MODULE).chain(NETWORK_MODULES) {
            let Some(entry) = self.0.get(wanted) else { continue };
            let needed = entry.depends.iter().rev().map(|path| module_name(path));
            for name in needed.chain(std::iter::once(wanted.to_owned())) {
                if let Some((known, _)) = self.0.get_key_value(&name)
                    && !order.contains(&known.as_str())
                {
                    order.push(known);
                }
            }
        }
        order
    }
}

/// Whether a path stays inside the modules' directory and can stand in a list of words.
fn is_module_path(path: &str) -> bool {
    path.len() <= 256
        && !path.starts_with('/')
        && path.split('/').all(|part| part != ".." && !part.is_empty())
        && path.chars().all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c))
        && path.contains(".ko")
}

/// `kernel/drivers/net/xen-netfront.ko.xz` is called `xen_netfront`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

fn matching_aliases(text: &str, names: &BTreeSet<&str>) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["alias", _, module] = words[..]
            && names.contains(module.replace('-', "_").as_str())
        {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_before_it_and_only_once() {
        let text = "kernel/drivers/block/nbd.ko:\n\
            kernel/net/core/failover.ko:\n\
            kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n\
            kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko\n";
        let index = Index::parse(text);
        assert_eq!(index.load_order(), ["nbd", "failover", "net_failover", "virtio_net"]);
    }

    #[test]
    fn paths_that_leave_the_directory_are_ignored() {
        let index = Index::parse("../../etc/nbd.ko:\n/abs/nbd.ko:\nkernel/a b/nbd.ko:\n");
        assert!(index.0.is_empty());
    }

    #[test]
    fn only_aliases_of_taken_modules_are_kept() {
        let text = "# comment\nalias pci:v00008086d00001000* e1000\nalias fs-xfs xfs\n";
        let kept = matching_aliases(text, &BTreeSet::from(["e1000"]));
        assert_eq!(kept, "alias pci:v00008086d00001000* e1000\n");
    }
}
