//! The files that make a Linux system somebody.

use protocol::plan::Identity;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Debian's way to have the host name resolved (hosts(5), Debian Reference 5.1.1).
const OWN_ADDRESS: &str = "127.0.1.1";

/// Writes everything below `root`, over what is there: a file that is kept keeps its labels.
pub(super) fn write(root: &Path, identity: &Identity) -> io::Result<()> {
    let etc = root.join("etc");
    put(&etc.join("hostname"), &format!("{}\n", identity.hostname), 0o644)?;
    put(&etc.join("machine-id"), &format!("{}\n", identity.machine_id), 0o444)?;
    let of_dbus = root.join("var/lib/dbus/machine-id");
    if fs::symlink_metadata(&of_dbus).is_ok_and(|found| found.is_file()) {
        put(&of_dbus, &format!("{}\n", identity.machine_id), 0o644)?;
    }
    rename_in_hosts(&etc.join("hosts"), identity.hostname.as_str())?;
    match etc.join("ssh") {
        ssh if ssh.is_dir() => write_ssh(&ssh, identity),
        _ => Ok(()), // no SSH server, no keys
    }
}

/// One key for each device. Keys of other kinds came with the image: everybody who has the image
/// has them too, so they prove nothing.
fn write_ssh(ssh: &Path, identity: &Identity) -> io::Result<()> {
    for entry in fs::read_dir(ssh)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with("_key.pub")) {
            fs::remove_file(entry.path())?;
        }
    }
    put(&ssh.join("ssh_host_ed25519_key"), &identity.ssh_private_key, 0o600)?;
    put(&ssh.join("ssh_host_ed25519_key.pub"), &identity.ssh_public_key, 0o644)
}

fn put(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    let mut file =
        options.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())
}

/// Gives the line of the machine's own name the new name; where there is none, none is made.
fn rename_in_hosts(path: &Path, hostname: &str) -> io::Result<()> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(()) };
    let is_own = |line: &str| line.split_whitespace().next() == Some(OWN_ADDRESS);
    if !text.lines().any(is_own) {
        return Ok(());
    }
    let renamed =
        |line: &str| if is_own(line) { format!("{OWN_ADDRESS}\t{hostname}\n") } else { format!("{line}\n") };
    put(path, &text.lines().map(renamed).collect::<String>(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn a_cloned_system_becomes_the_device() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc/ssh")).unwrap();
        fs::create_dir_all(at("var/lib/dbus")).unwrap();
        fs::write(at("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 golden golden.lan\n").unwrap();
        fs::write(at("var/lib/dbus/machine-id"), "old\n").unwrap();
        for key in ["ssh_host_rsa_key", "ssh_host_rsa_key.pub", "ssh_host_ed25519_key", "sshd_config"] {
            fs::write(at("etc/ssh").join(key), "old, and longer than what comes now".repeat(9)).unwrap();
        }
        write(root.path(), &example()).unwrap();
        let read = |path: &str| fs::read_to_string(at(path)).unwrap();
        assert_eq!(read("etc/hostname"), "m-07\n");
        assert_eq!(read("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1\tm-07\n");
        assert_eq!(read("etc/machine-id"), format!("{}\n", example().machine_id));
        assert_eq!(read("var/lib/dbus/machine-id"), read("etc/machine-id"));
        assert_eq!(read("etc/ssh/ssh_host_ed25519_key"), example().ssh_private_key);
        let key = fs::metadata(at("etc/ssh/ssh_host_ed25519_key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        assert!(!at("etc/ssh/ssh_host_rsa_key").exists() && at("etc/ssh/sshd_config").exists());
    }

    #[test]
    fn a_system_without_an_ssh_server_gets_no_keys() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        write(root.path(), &example()).unwrap();
        assert!(root.path().join("etc/hostname").exists() && !root.path().join("etc/ssh").exists());
    }
}
