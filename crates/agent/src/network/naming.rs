//! The name of the network card, before it is in use.
//!
//! The image's udev renames cards (`eth0` becomes `ens3`), and its network configuration speaks of
//! the new name. Kernels before 6.2 refuse to rename a card that is up, and ours is up long before
//! udev runs. So the initrd's own `udevadm`, with its own rules, is asked for the name first.

use super::{Link, find_link, rename};
use crate::console;
use crate::netlink::Socket;
use model::MacAddress;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where an initrd may keep `udevadm`.
const UDEVADM: [&str; 4] = ["/bin/udevadm", "/usr/bin/udevadm", "/sbin/udevadm", "/usr/sbin/udevadm"];
/// It takes some 20 ms; a machine where it hangs boots with the kernel's name.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Gives the card the name that the image's udev would give it. Never fails: a card with the
/// kernel's name is better than none.
pub(crate) fn apply(socket: &mut Socket, link: Link, mac: MacAddress) -> Link {
    let Some(udevadm) = UDEVADM.iter().find(|path| std::path::Path::new(path).exists()) else { return link };
    let output = ask(udevadm, &link.name).unwrap_or_default();
    let renamed = match chosen_name(&output) {
        Some(name) if name != link.name => rename(socket, &link, name).map_err(|error| {
            console::problem(format!("cannot rename {} to {name}: {error}", link.name));
        }),
        _ => Ok(()),
    };
    let _ = renamed;
    // Some versions of "udevadm test" rename by themselves.
    find_link(socket, mac).ok().flatten().unwrap_or(link)
}

/// What udev would call the card: what its rules say, else the first of the usual policy.
fn chosen_name(output: &str) -> Option<&str> {
    const KEYS: [&str; 1] = ["ID_NET_NAME="];
    let find = |key: &str| output.lines().filter_map(|line| line.trim().strip_prefix(key)).next_back();
    KEYS.iter().find_map(|key| find(key)).filter(|name| is_interface_name(name))
}

/// The kernel's rule (`dev_valid_name`), narrowed to printable ASCII.
fn is_interface_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    (1..16).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

fn ask(udevadm: &str, interface: &str) -> std::io::Result<String> {
    let mut child = Command::new(udevadm)
        .args(["test", "--action=add", &format!("/sys/class/net/{interface}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut pipe = child.stdout.take().expect("it was asked for");
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = pipe.by_ref().take(256 * 1024).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let deadline = Instant::now() + ANSWER_WITHIN;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(reader.join().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_udev_s_rules_say() {
        let output = "ID_NET_NAME_PATH=enp0s3\nID_NET_NAME_SLOT=ens3\nID_NET_NAME=ens3\nTAGS=:systemd:\n";
        assert_eq!(chosen_name(output), Some("ens3"));
        assert_eq!(chosen_name("ID_NET_NAME_PATH=enp0s3\n"), None, "no policy, no new name");
    }

    #[test]
    fn what_the_kernel_would_refuse_is_not_tried() {
        for bad in ["", "a/b", "a b", "sixteen-characters", "."] {
            assert_eq!(chosen_name(&format!("ID_NET_NAME={bad}\n")), None);
        }
    }
}
