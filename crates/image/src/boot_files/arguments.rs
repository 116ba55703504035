//! The image's own kernel arguments that are worth keeping on a streamed boot.
//!
//! An allow-list: consoles and switches that change how the system behaves. What names disks
//! (`root=`, `resume=`, `rd.luks...`), hides the boot (`quiet`, `splash`) or is not known stays
//! out: Headwater says where the root is, and a bootloader's scripts are never run here.

use super::BootFilesError;
use super::tree::Tree;

const TEXT_LIMIT: u64 = 1 << 20;
/// The most arguments kept; the kernel's own command line ends at 2,048 or 4,096 bytes.
const ARGUMENT_LIMIT: usize = 32;
/// The longest argument kept.
const LENGTH_LIMIT: usize = 128;
/// Kept with any value.
const KEPT_NAMES: [&str; 20] = [
    "apparmor",
    "biosdevname",
    "clocksource",
    "console",
    "consoleblank",
    "earlycon",
    "earlyprintk",
    "elevator",
    "enforcing",
    "intel_iommu",
    "iommu",
    "mitigations",
    "net.ifnames",
    "no_timer_check",
    "nomodeset",
    "security",
    "selinux",
    "transparent_hugepage",
    "tsc",
    "vga",
];

/// The arguments from the first source that has any: the boot entry, `/etc/kernel/cmdline`, the
/// settings of GRUB.
pub(super) fn find(root: &Tree, entry_options: &str) -> Result<Vec<String>, BootFilesError> {
    let mut source = entry_options.to_owned();
    if source.is_empty() {
        source = root.read_text("/etc/kernel/cmdline", TEXT_LIMIT)?.unwrap_or_default();
    }
    if source.trim().is_empty() {
        source = grub_arguments(root)?;
    }
    Ok(keep(&source))
}

/// The values of GRUB_CMDLINE_LINUX and _DEFAULT, in the order in which update-grub reads them;
/// a later assignment replaces an earlier one, `$VAR` refers to what was there before.
fn grub_arguments(root: &Tree) -> Result<String, BootFilesError> {
    let mut files = vec!["/etc/default/grub".to_owned()];
    for name in root.list("/etc/default/grub.d")? {
        if name.ends_with(".cfg") {
            files.push(format!("/etc/default/grub.d/{name}"));
        }
    }
    let (mut always, mut normally) = (String::new(), String::new());
    for file in files {
        for line in root.read_text(&file, TEXT_LIMIT)?.unwrap_or_default().lines() {
            assign(line, "GRUB_CMDLINE_LINUX", &mut always);
            assign(line, "GRUB_CMDLINE_LINUX_DEFAULT", &mut normally);
        }
    }
    Ok(format!("{always} {normally}"))
}

fn assign(line: &str, name: &str, value: &mut String) {
    let Some(assigned) = line.trim().strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) else {
        return;
    };
    let text = assigned.trim().trim_matches(['"', '\'']);
    let text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
    // Bounded: a file of lines that double themselves must not fill memory.
    *value = text.chars().take(8192).collect();
}

fn keep(source: &str) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for argument in source.split_whitespace().filter(|argument| is_kept(argument)) {
        if kept.len() < ARGUMENT_LIMIT && !kept.iter().any(|known| known == argument) {
            kept.push(argument.to_owned());
        }
    }
    kept
}

fn is_kept(argument: &str) -> bool {
    let name = argument.split('=').next().unwrap_or_default();
    argument.len() <= LENGTH_LIMIT
        && argument.chars().all(|c| c.is_ascii_alphanumeric() || "._,:=+-/@".contains(c))
        && (KEPT_NAMES.contains(&name) || name.starts_with("systemd.unified_cgroup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_stay_and_disks_and_silence_go() {
        let source = "root=/dev/sda1 ro quiet splash console=tty0 console=ttyS0,115200 resume=UUID=1";
        assert_eq!(keep(source), ["console=tty0", "console=ttyS0,115200"]);
    }

    #[test]
    fn shell_text_never_gets_through() {
        assert!(keep("console=$(reboot) console=`x` console=a;b console=\"y").is_empty());
    }

    #[test]
    fn a_later_grub_file_may_add_to_an_earlier_one() {
        let mut value = String::new();
        assign("GRUB_CMDLINE_LINUX=\"console=tty0\"", "GRUB_CMDLINE_LINUX", &mut value);
        assign("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX net.ifnames=0\"", "GRUB_CMDLINE_LINUX", &mut value);
        assert_eq!(keep(&value), ["console=tty0", "net.ifnames=0"]);
    }
}
