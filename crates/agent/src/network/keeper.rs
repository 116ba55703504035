//! Keeps the way to the servers open after the image's network manager has taken over.
//!
//! `ifdown` at shutdown, a DHCP client that flushes an address, a manager that "cleans up" what it
//! did not configure: each cuts the branch that the root file system sits on, and the process that
//! did it then waits for a page of that file system. The keeper listens to the kernel's routing
//! messages and puts back what is missing, after a moment in which the manager may do so itself:
//! the link, then, only where the card has no IPv4 address left, the loader's address. Where it
//! has another one, or a bridge over it has taken ours, the guest's will counts; the link to the
//! servers is opened anew from another address.

use super::{addresses, bring_up, configure, find_link};
use crate::console;
use crate::device_disk::DeviceDisk;
use crate::kernel_parameters::LoaderAddress;
use crate::netlink::Socket;
use std::io;
use std::net::IpAddr;
use std::sync::Weak;
use std::time::Duration;

/// How long a network manager may take between taking an address and setting the next; by eye:
/// longer than a renewal's flush and add, shorter than anybody notices.
const GRACE: Duration = Duration::from_millis(400);
/// How often to look without having been told: routing messages can be lost under load.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is missing, decided from what the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    Nothing,
    /// Switch the link on, set the address again where there is none.
    Restore,
    /// The guest has another address now: connect from there.
    Reconnect,
}

/// Starts the keeper on a thread of its own; it ends with the disk.
pub(crate) fn start(address: LoaderAddress, disk: Weak<DeviceDisk>) -> io::Result<()> {
    let events = Socket::route_events()?;
    let mut socket = Socket::route()?;
    std::thread::Builder::new().name("network".into()).spawn(move || {
        while disk.strong_count() > 0 {
            if let Err(error) = look(&mut socket, &address, &disk) {
                console::problem(format!("the network keeper: {error}"));
            }
            // An overrun (ENOBUFS) is an event, too: something has changed. The pause keeps a
            // socket that fails for good from turning into a busy loop.
            if events.wait_event(LOOK_EVERY).is_err() {
                std::thread::sleep(GRACE);
            }
        }
    })?;
    Ok(())
}

fn look(socket: &mut Socket, address: &LoaderAddress, disk: &Weak<DeviceDisk>) -> io::Result<()> {
    if repair(socket, address, disk)? == Repair::Nothing {
        return Ok(());
    }
    std::thread::sleep(GRACE);
    match repair(socket, address, disk)? {
        Repair::Nothing => {}
        Repair::Reconnect => {
            if let Some(disk) = disk.upgrade() {
                console::info("the network card has another address now: connecting from there");
                disk.remote().reconnect();
            }
        }
        Repair::Restore => restore(socket, address)?,
    }
    Ok(())
}

fn restore(socket: &mut Socket, address: &LoaderAddress) -> io::Result<()> {
    let Some(link) = find_link(socket, address.mac)? else { return Ok(()) };
    bring_up(socket, &link)?;
    if addresses(socket)?.iter().all(|(index, _)| *index != link.index) {
        configure(socket, &link, address)?;
    }
    console::info(format!("{}: the way to the servers was cut and is open again", link.name));
    Ok(())
}

fn repair(socket: &mut Socket, address: &LoaderAddress, disk: &Weak<DeviceDisk>) -> io::Result<Repair> {
    let Some(link) = find_link(socket, address.mac)? else { return Ok(Repair::Nothing) };
    let all = addresses(socket)?;
    let in_use = disk.upgrade().and_then(|disk| disk.link().local).map(|local| local.ip());
    let ours = match in_use {
        Some(IpAddr::V4(in_use)) => in_use,
        _ => address.address,
    };
    Ok(decide(&Seen {
        is_up: link.is_up,
        card_has_address: all.iter().any(|(index, _)| *index == link.index),
        ours_is_somewhere: all.iter().any(|(_, present)| *present == ours),
        is_connected: in_use.is_some(),
    }))
}

/// What the kernel says about the way to the servers.
struct Seen {
    is_up: bool,
    card_has_address: bool,
    /// On the card, or on a bridge or bond that has taken it over.
    ours_is_somewhere: bool,
    is_connected: bool,
}

fn decide(seen: &Seen) -> Repair {
    match seen {
        Seen { is_up: false, .. } => Repair::Restore,
        Seen { ours_is_somewhere: true, .. } => Repair::Nothing,
        Seen { card_has_address: false, .. } => Repair::Restore,
        Seen { is_connected: true, .. } => Repair::Reconnect,
        Seen { is_connected: false, .. } => Repair::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Seen =
        Seen { is_up: true, card_has_address: true, ours_is_somewhere: true, is_connected: true };

    #[test]
    fn a_card_that_is_off_or_bare_is_restored() {
        assert_eq!(decide(&WELL), Repair::Nothing);
        assert_eq!(decide(&Seen { is_up: false, ..WELL }), Repair::Restore);
        let bare = Seen { card_has_address: false, ours_is_somewhere: false, ..WELL };
        assert_eq!(decide(&bare), Repair::Restore);
        assert_eq!(decide(&Seen { is_connected: false, ..bare }), Repair::Restore);
    }

    #[test]
    fn another_address_is_the_guest_s_will() {
        let other = Seen { ours_is_somewhere: false, ..WELL };
        assert_eq!(decide(&other), Repair::Reconnect);
        assert_eq!(decide(&Seen { is_connected: false, ..other }), Repair::Nothing);
    }

    #[test]
    fn a_bridge_that_took_the_address_is_left_alone() {
        assert_eq!(decide(&Seen { card_has_address: false, ..WELL }), Repair::Nothing);
    }
}
