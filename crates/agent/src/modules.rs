//! Kernel modules: those that the server put beside the agent, and those of the image's initrd.
//!
//! `/headwater/modules/load` has a line for each module, `NAME FILE DEPENDENCIES`, where the
//! dependencies are names separated by commas, or `-`. `/headwater/modules/alias` has lines of
//! `modules.alias` for them: `alias PATTERN NAME`.

use crate::console;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `MODULE_INIT_COMPRESSED_FILE` (Linux 5.17): the kernel unpacks the module itself.
const COMPRESSED_FILE: u32 = 4;
/// Where an initrd may keep the program that `modprobe` and `insmod` are names of.
const KMOD: [&str; 4] = ["/bin/kmod", "/usr/bin/kmod", "/sbin/kmod", "/usr/sbin/kmod"];
/// Where an initrd may keep `modprobe`.
const MODPROBE: [&str; 4] = ["/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe", "/usr/bin/modprobe"];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Module {
    file: PathBuf,
    needs: Vec<String>,
}

/// The modules at hand.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    carried: HashMap<String, Module>,
    aliases: Vec<(String, String)>,
    loaded: HashSet<String>,
}

impl Modules {
    /// Reads the lists in `directory`; without them, only the initrd's own modules are at hand.
    pub(crate) fn read(directory: &Path) -> Self {
        let read = |name| fs::read_to_string(directory.join(name)).unwrap_or_default();
        Self {
            carried: parse_load(&read("load"), directory),
            aliases: parse_alias(&read("alias")),
            loaded: HashSet::new(),
        }
    }

    /// Loads a module and what it needs, ours or the initrd's. Built-in ones count as loaded.
    pub(crate) fn load(&mut self, name: &str) {
        let name = canonical(name);
        if !self.loaded.insert(name.clone()) {
            return;
        }
        let Some(module) = self.carried.get(&name).cloned() else { return modprobe(&name) };
        module.needs.iter().for_each(|needed| self.load(needed));
        if let Err(error) = insert(&module.file)
            && !insmod(&module.file)
        {
            console::problem(format!("module {name} ({}): {error}", module.file.display()));
            modprobe(&name);
        }
    }

    /// Loads the drivers of all devices that are there and have no driver loaded yet.
    pub(crate) fn load_for_devices(&mut self, modaliases: &[String]) {
        let wanted: Vec<String> = self
            .aliases
            .iter()
            .filter(|(pattern, _)| modaliases.iter().any(|alias| matches(pattern, alias)))
            .map(|(_, name)| name.clone())
            .collect();
        wanted.iter().for_each(|name| self.load(name));
    }
}

/// Asks the initrd's own `modprobe` for drivers of devices, by their aliases.
pub(crate) fn modprobe_devices(modaliases: &[String]) {
    modprobe_all(modaliases.iter().map(String::as_str));
}

/// The aliases of all devices that the kernel has found.
pub(crate) fn device_modaliases() -> Vec<String> {
    let mut found = HashSet::new();
    for bus in ["pci", "virtio", "usb", "vmbus", "xen", "platform"] {
        let directory = format!("/sys/bus/{bus}/devices");
        for device in fs::read_dir(directory).into_iter().flatten().flatten() {
            if let Ok(alias) = fs::read_to_string(device.path().join("modalias")) {
                found.insert(alias.trim().to_owned());
            }
        }
    }
    found.into_iter().filter(|alias| !alias.is_empty()).collect()
}

fn insert(file: &Path) -> Result<(), Errno> {
    let opened = File::open(file).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    let packed = file.extension().is_some_and(|extension| extension != "ko");
    let flags = ModuleInitFlags::from_bits_retain(if packed { COMPRESSED_FILE } else { 0 });
    match finit_module(opened, c"", flags) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// Has the initrd's own `kmod` insert a module: it can unpack what the kernel was built without.
fn insmod(file: &Path) -> bool {
    let Some(program) = KMOD.iter().find(|path| Path::new(path).exists()) else { return false };
    let mut command = Command::new(program);
    command.arg("insmod").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn modprobe(name: &str) {
    if !Path::new("/sys/module").join(name).exists() {
        modprobe_all([name].into_iter());
    }
}

fn modprobe_all<'a>(names: impl Iterator<Item = &'a str>) {
    let Some(program) = MODPROBE.iter().find(|path| Path::new(path).exists()) else { return };
    let mut command = Command::new(program);
    command.args(["-q", "-a", "--"]).args(names);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Names of modules may be written with either character.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn parse_load(text: &str, directory: &Path) -> HashMap<String, Module> {
    let module = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (name, file) = (words.next()?, words.next()?);
        let needs = words.next().filter(|needs| *needs != "-").unwrap_or_default();
        let needs = needs.split(',').filter(|need| !need.is_empty()).map(canonical).collect();
        Some((canonical(name), Module { file: directory.join(file), needs }))
    };
    text.lines().filter_map(module).collect()
}

fn parse_alias(text: &str) -> Vec<(String, String)> {
    let alias = |line: &str| {
        let mut words = line.strip_prefix("alias ")?.rsplitn(2, ' ');
        let (name, pattern) = (words.next()?, words.next()?);
        Some((pattern.trim().to_owned(), canonical(name)))
    };
    text.lines().filter_map(alias).collect()
}

/// Shell-style matching with `*`, `?` and `[...]`, as `modules.alias` uses them.
fn matches(pattern: &str, text: &str) -> bool {
    matches_bytes(pattern.as_bytes(), text.as_bytes())
}

fn matches_bytes(pattern: &[u8], text: &[u8]) -> bool {
    // The classic loop with one point of return, because nested recursion could take forever.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match one(&pattern[p..], text[t]) {
            Some(0) => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(used) => (p, t) = (p + used, t + 1),
            None => match star {
                Some((after, at)) => {
                    (p, t) = (after, at + 1);
                    star = Some((after, at + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// How many bytes of the pattern match `byte`: 0 for a star, none where it does not match.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'*' => Some(0),
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().position(|byte| *byte == b']')?;
            in_class(&pattern[1..end], byte).then_some(end + 1)
        }
        literal => (*literal == byte).then_some(1),
    }
}

fn in_class(class: &[u8], byte: u8) -> bool {
    let range = class.windows(3).any(|w| w[1] == b'-' && (w[0]..=w[2]).contains(&byte));
    range || class.contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_the_server_are_understood() {
        let carried = parse_load(
            "virtio-net virtio_net.ko.xz net_failover,failover\nnbd nbd.ko -\n\n",
            Path::new("/m"),
        );
        assert_eq!(carried["virtio_net"].needs, ["net_failover", "failover"]);
        assert_eq!(carried["virtio_net"].file, Path::new("/m/virtio_net.ko.xz"));
        assert!(carried["nbd"].needs.is_empty());
        assert_eq!(
            parse_alias("# comment\nalias virtio:d00000001v* virtio-net\n"),
            [("virtio:d00000001v*".to_owned(), "virtio_net".to_owned())]
        );
    }

    #[test]
    fn aliases_match_like_in_a_shell() {
        assert!(matches("virtio:d00000001v*", "virtio:d00000001v00001AF4"));
        assert!(matches(
            "pci:v00008086d0000100Esv*sd*bc*sc*i*",
            "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"
        ));
        assert!(!matches("virtio:d00000002v*", "virtio:d00000001v00001AF4"));
        assert!(matches("usb:v[0-9A]?*", "usb:vA1"));
        assert!(!matches("usb:v[0-9]", "usb:vB"));
        assert!(!matches("[", "["));
        assert!(matches("*a*b", "xxaxxbxxb"));
    }

    #[test]
    fn a_pattern_of_many_stars_ends_in_time() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
        assert!(!matches(&format!("{}b", "*a".repeat(200)), &"a".repeat(5000)));
    }
}
