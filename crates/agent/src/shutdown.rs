//! Notices that the device is going down, so that its last report can say so.
//!
//! The agent's own view of `/proc` goes when the image's init takes it over; a directory that was
//! opened before stays, and through `1/root` it leads into the image. Everything looked at is in
//! memory (`/proc`, `/run`): looking never waits for the disk that this process serves.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};

/// systemd's last process, as the kernel cuts its name.
const LAST_PROCESS: &str = "systemd-shutdow";
/// Made early in the boot (systemd-tmpfiles), removed when logins begin and made again when they
/// end at shutdown (systemd-user-sessions).
const NO_LOGIN: &str = "1/root/run/nologin";

/// More than the mount table of any machine that is going down.
const MOUNTS_BYTES: usize = 64 * 1024;

/// Watches PID 1 through a directory that stays open.
pub(crate) struct ShutdownWatch {
    proc: OwnedFd,
    logins: Logins,
}

/// What [`NO_LOGIN`] has told so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logins {
    /// Not there yet: init has only begun.
    Unknown,
    NotYet,
    Open,
    Over,
}

impl ShutdownWatch {
    /// Opens `/proc`; none where there is none to open.
    pub(crate) fn open() -> Option<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let proc = openat(CWD, "/proc", flags, Mode::empty()).ok()?;
        Some(Self { proc, logins: Logins::Unknown })
    }

    /// Whether the device is going down.
    pub(crate) fn look(&mut self) -> bool {
        let no_login = statat(&self.proc, NO_LOGIN, AtFlags::empty()).is_ok();
        self.decide(no_login, &self.first_process())
    }

    fn decide(&mut self, no_login: bool, first_process: &str) -> bool {
        self.logins = match (self.logins, no_login) {
            (Logins::Unknown, true) => Logins::NotYet,
            (Logins::NotYet, false) => Logins::Open,
            (Logins::Open, true) => Logins::Over,
            (same, _) => same,
        };
        first_process == LAST_PROCESS || self.logins == Logins::Over
    }

    /// Whether the root file system takes no more writes: the last thing that an init does to it.
    pub(crate) fn root_is_read_only(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = openat(&self.proc, "1/mountinfo", flags, Mode::empty());
        opened.is_ok_and(|file| root_is_read_only(&read_text(&file, MOUNTS_BYTES)))
    }

    fn first_process(&self) -> String {
        let mut name = [0; 16];
        let opened = openat(&self.proc, "1/comm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let len = opened.and_then(|file| rustix::io::read(&file, &mut name)).unwrap_or(0);
        String::from_utf8_lossy(&name[..len]).trim_end().to_owned()
    }
}

fn read_text(file: impl AsFd, limit: usize) -> String {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while text.len() < limit {
        match rustix::io::read(&file, &mut piece) {
            Ok(len) if len > 0 => text.extend_from_slice(&piece[..len]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads `/proc/PID/mountinfo` (proc(5)): the mount point is the fifth word, its options are the
/// sixth; what is mounted last at a point hides the others.
fn root_is_read_only(mounts: &str) -> bool {
    let words = mounts.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = words.into_iter().find(|words| words.get(4) == Some(&"/"));
    root.and_then(|words| words.get(5).map(|options| options.split(',').any(|option| option == "ro")))
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_read_only_where_its_last_mount_is() {
        let proc = "21 1 0:5 / /proc rw,nosuid - proc proc rw\n";
        let writable = "1 1 0:1 / / ro - rootfs rootfs rw\n22 1 43:1 / / rw,relatime - ext4 /dev/nbd0p1 rw\n";
        let read_only = "22 1 43:1 / / ro,relatime - ext4 /dev/nbd0p1 ro,errors=remount-ro\n";
        assert!(!root_is_read_only(&format!("{proc}{writable}")));
        assert!(root_is_read_only(&format!("{read_only}{proc}")));
        assert!(!root_is_read_only(""), "nothing known is not read-only");
    }

    #[test]
    fn logins_that_end_after_they_were_open_mean_shutdown() {
        let mut watch = ShutdownWatch::open().unwrap();
        for (no_login, when) in [(false, "before tmpfiles"), (true, "early in the boot"), (false, "up")] {
            assert!(!watch.decide(no_login, "systemd"), "{when}");
        }
        assert!(watch.decide(true, "systemd"));
    }

    #[test]
    fn systemd_s_last_process_means_shutdown() {
        assert!(ShutdownWatch::open().unwrap().decide(false, LAST_PROCESS));
    }

    #[test]
    fn the_first_process_has_a_name() {
        assert!(!ShutdownWatch::open().unwrap().first_process().is_empty());
    }
}
