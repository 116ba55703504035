//! Who the device is: written into its root file system before the image's own init starts there.
//!
//! Two halves. [`prepare`] runs in the first process, before anything of the initrd has run: it
//! leaves the identity in the initrd (in memory, gone with it) and a hook that calls the second
//! half. [`apply`] runs once the initrd has mounted the root file system and is about to leave it:
//! only then is there a place to write to, and it is still nobody's. The files go into the write
//! cache; a draft never gets here, because what is written there would become every device's.

mod files;

use crate::console;
use anyhow::Context as _;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};
use protocol::plan::Identity;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the identity waits for the second half.
const WAITING: &str = "/headwater/identity.json";
/// What initramfs-tools runs when the root file system is there: a list of commands
/// (initramfs-tools(7), `init-bottom`).
const INITRAMFS_TOOLS: &str = "/scripts/init-bottom";
/// Where dracut keeps its hooks, newest first (dracut.modules(7), `pre-pivot`).
const DRACUT: [&str; 3] = ["/var/lib/dracut/hooks", "/lib/dracut/hooks", "/usr/lib/dracut/hooks"];

/// Leaves the identity and a hook in the initrd.
pub(crate) fn prepare(identity: &Identity) -> anyhow::Result<()> {
    prepare_in(Path::new("/"), identity)
}

fn prepare_in(initrd: &Path, identity: &Identity) -> anyhow::Result<()> {
    let below = |path: &str| initrd.join(path.trim_start_matches('/'));
    let json = serde_json::to_vec(identity).context("the identity")?;
    let waiting = below(WAITING);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&waiting);
    file.and_then(|mut file| file.write_all(&json)).context(WAITING)?;
    let hook = |path: PathBuf, line: &str| {
        fs::create_dir_all(path.parent().expect("hooks lie in folders"))?;
        OpenOptions::new().append(true).create(true).open(path)?.write_all(line.as_bytes())
    };
    if below(INITRAMFS_TOOLS).is_dir() {
        let path = below(INITRAMFS_TOOLS).join("ORDER");
        return hook(path, "\n/headwater/init identity \"${rootmnt}\"\n").context(INITRAMFS_TOOLS);
    }
    match DRACUT.iter().map(|path| below(path)).find(|path| path.is_dir()) {
        Some(hooks) => {
            let path = hooks.join("pre-pivot/60-headwater.sh");
            hook(path, "/headwater/init identity \"$NEWROOT\"\n").context("dracut's pre-pivot hooks")
        }
        None => {
            fs::remove_file(waiting).context(WAITING)?;
            anyhow::bail!(
                "this initrd is neither of initramfs-tools nor of dracut: the device keeps the image's host \
                 name, machine-id and SSH keys"
            )
        }
    }
}

/// Writes the identity that waits into the file system at `root`. Says on the console what went
/// wrong, and never stops the boot.
pub(crate) fn apply(root: &Path) {
    console::use_kernel_log();
    match apply_to(root) {
        Ok(hostname) => console::info(format!("this device is {hostname}")),
        Err(error) => console::problem(format!(
            "the device's identity was not written: {error:#}\n\
             hint: it runs with the image's host name, machine-id and SSH keys"
        )),
    }
}

fn apply_to(root: &Path) -> anyhow::Result<String> {
    let json = fs::read(WAITING).context(WAITING)?;
    fs::remove_file(WAITING).context(WAITING)?;
    let identity: Identity = serde_json::from_slice(&json).context(WAITING)?;
    let was_read_only =
        statvfs(root).with_context(|| root.display().to_string())?.flags().contains(FsFlags::ST_RDONLY);
    if was_read_only {
        remount(root, MsFlags::empty()).context("the root file system cannot be made writable")?;
    }
    // Below its own root, so that links in the image lead into the image.
    let written = in_root(root, &identity);
    if was_read_only {
        // Where `apply` stands now, the root is "/".
        remount(Path::new("/"), MsFlags::MS_RDONLY).context("the root file system stays writable")?;
    }
    written.map(|()| identity.hostname.to_string())
}

fn in_root(root: &Path, identity: &Identity) -> anyhow::Result<()> {
    nix::unistd::chroot(root).context("chroot")?;
    nix::unistd::chdir("/").context("chdir")?;
    files::write(Path::new("/"), identity).context("a file of the identity")
}

fn remount(root: &Path, more: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, root, None::<&str>, MsFlags::MS_REMOUNT | more, None::<&str>)
}

#[cfg(test)]
pub(crate) fn example() -> Identity {
    Identity {
        hostname: model::Name::new("m-07").unwrap(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        ssh_private_key: "-----BEGIN OPENSSH PRIVATE KEY-----\n".into(),
        ssh_public_key: "ssh-ed25519 AAAA\n".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initrd(folder: &str) -> tempfile::TempDir {
        let initrd = tempfile::tempdir().unwrap();
        fs::create_dir(initrd.path().join("headwater")).unwrap();
        fs::create_dir_all(initrd.path().join(folder)).unwrap();
        initrd
    }

    #[test]
    fn initramfs_tools_calls_us_after_its_own_scripts() {
        let initrd = initrd("scripts/init-bottom");
        let order = initrd.path().join("scripts/init-bottom/ORDER");
        fs::write(&order, "/scripts/init-bottom/udev \"$@\"").unwrap();
        prepare_in(initrd.path(), &example()).unwrap();
        let lines = fs::read_to_string(order).unwrap();
        assert_eq!(lines, "/scripts/init-bottom/udev \"$@\"\n/headwater/init identity \"${rootmnt}\"\n");
        let waiting = fs::metadata(initrd.path().join("headwater/identity.json")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&waiting.permissions()) & 0o777, 0o600);
    }

    #[test]
    fn dracut_calls_us_before_it_leaves() {
        let initrd = initrd("lib/dracut/hooks");
        prepare_in(initrd.path(), &example()).unwrap();
        let hook = initrd.path().join("lib/dracut/hooks/pre-pivot/60-headwater.sh");
        assert_eq!(fs::read_to_string(hook).unwrap(), "/headwater/init identity \"$NEWROOT\"\n");
    }

    #[test]
    fn an_initrd_that_we_do_not_know_keeps_no_secret() {
        let initrd = initrd("hooks");
        assert!(prepare_in(initrd.path(), &example()).is_err());
        assert!(!initrd.path().join("headwater/identity.json").exists());
    }
}
