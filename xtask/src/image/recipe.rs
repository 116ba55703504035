//! What goes into each image: the pairs of initrd generator and network manager that Debian
//! machines come with.

/// One image.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// Its name on the command line and in the cache.
    pub(crate) name: &'static str,
    /// The Debian suite.
    pub(crate) suite: &'static str,
    /// The root file system's UUID, fixed so that an image made twice boots by the same line.
    pub(crate) uuid: &'static str,
    initrd: &'static str,
    network: Network,
}

#[derive(Debug)]
enum Network {
    Ifupdown,
    Networkd,
}

/// All images.
pub(crate) const RECIPES: &[Recipe] = &[
    Recipe {
        name: "debian-initramfs",
        suite: "bookworm",
        uuid: "48454144-5741-5445-5220-000000000001",
        initrd: "initramfs-tools",
        network: Network::Ifupdown,
    },
    Recipe {
        name: "debian-dracut",
        suite: "bookworm",
        uuid: "48454144-5741-5445-5220-000000000002",
        initrd: "dracut",
        network: Network::Networkd,
    },
];

const BASE: &[&str] = &["systemd-sysv", "udev", "linux-image-cloud-amd64", "iproute2", "kmod", "zstd"];

impl Recipe {
    /// Finds a recipe by its name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        RECIPES.iter().find(|recipe| recipe.name == name)
    }

    /// The packages beside Debian's minimal set.
    pub(crate) fn packages(&self) -> Vec<&'static str> {
        let network: &[_] = match self.network {
            Network::Ifupdown => &["ifupdown", "isc-dhcp-client"],
            Network::Networkd => &["systemd-resolved"],
        };
        [BASE, &[self.initrd], network].concat()
    }

    /// A shell script that finishes the system in the folder `$1`; runs as its root.
    pub(crate) fn customize(&self) -> String {
        let fstab = format!("UUID={} / ext4 defaults 0 1", self.uuid);
        let mut script = String::from("set -eu\n");
        script += &file("/etc/fstab", &fstab);
        script += &file("/etc/hostname", "diskless");
        script += &file("/etc/hosts", "127.0.0.1 localhost diskless");
        script += &file(PROBE, include_str!("../../guest/probe.sh"));
        script += &file(SHELL, include_str!("../../guest/shell.sh"));
        script += &file(&unit("probe"), include_str!("../../guest/headwater-lab-probe.service"));
        script += &file(&unit("shell"), include_str!("../../guest/headwater-lab-shell.service"));
        script += &format!("chmod 0755 \"$1{PROBE}\" \"$1{SHELL}\"\n");
        // Empty: each boot gets an id of its own, without the settings of a first boot.
        script += ": >\"$1/etc/machine-id\"\n";
        let mut units = vec!["headwater-lab-probe", "headwater-lab-shell", "serial-getty@ttyS0"];
        match self.network {
            Network::Ifupdown => script += &file("/etc/network/interfaces", INTERFACES),
            Network::Networkd => {
                script += &file("/etc/systemd/network/lan.network", NETWORK);
                units.push("systemd-networkd");
            }
        }
        script + &format!("chroot \"$1\" systemctl enable {}", units.join(" "))
    }

    /// Names the recipe's content: an image made by another recipe is never taken from the cache.
    pub(crate) fn fingerprint(&self, disk_mib: u64) -> String {
        let content = format!("{self:?} {disk_mib} {:?} {}", self.packages(), self.customize());
        blake3::hash(content.as_bytes()).to_hex()[..12].to_owned()
    }
}

const PROBE: &str = "/usr/lib/headwater-lab/probe";
const SHELL: &str = "/usr/lib/headwater-lab/shell";
const INTERFACES: &str = "auto lo\niface lo inet loopback\n\nauto /en*=lan /eth*=lan\niface lan inet dhcp\n";
const NETWORK: &str = "[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\n";

fn unit(name: &str) -> String {
    format!("/etc/systemd/system/headwater-lab-{name}.service")
}

/// The shell lines that write a file below `$1`.
fn file(path: &str, content: &str) -> String {
    let content = content.trim_end();
    format!(
        "mkdir -p \"$(dirname \"$1{path}\")\"\ncat >\"$1{path}\" <<'END-OF-FILE'\n{content}\nEND-OF-FILE\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recipe_is_found_by_its_name_and_has_a_fingerprint_of_its_own() {
        let prints: std::collections::BTreeSet<_> =
            RECIPES.iter().map(|recipe| recipe.fingerprint(1)).collect();
        assert_eq!(prints.len(), RECIPES.len());
        assert!(RECIPES.iter().all(|recipe| Recipe::named(recipe.name).is_some()));
    }
}
