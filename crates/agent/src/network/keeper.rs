//! Keeps the way to the servers open after the image's network manager has taken over.
//!
//! `ifdown` at shutdown, a DHCP client that flushes an address, a manager that "cleans up" what it
//! did not configure: each cuts the branch that the root file system sits on, and the process that
//! did it then waits for a page of that file system. The keeper listens to the kernel's routing
//! messages and puts back what is missing, after a moment in which the manager may do so itself:
//! the link, then, only where the card has no IPv4 address left, the loader's address. Where it
//! has another one, the guest's will counts and the link to the servers is opened anew from there.

use super::{addresses, bring_up, configure, find_link};
use crate::console;
use crate::device_disk::DeviceDisk;
use crate::kernel_parameters::LoaderAddress;
use crate::netlink::Socket;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
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
                disk.cache.parent().reconnect();
            }
        }
        Repair::Restore => restore(socket, address)?,
    }
    Ok(())
}

fn restore(socket: &mut Socket, address: &LoaderAddress) -> io::Result<()> {
    let Some(link) = find_link(socket, address.mac)? else { return Ok(()) };
    bring_up(socket, &link)?;
    if addresses(socket, &link)?.is_empty() {
        configure(socket, &link, address)?;
    }
    console::info(format!("{}: the way to the servers was cut and is open again", link.name));
    Ok(())
}

fn repair(socket: &mut Socket, address: &LoaderAddress, disk: &Weak<DeviceDisk>) -> io::Result<Repair> {
    let Some(link) = find_link(socket, address.mac)? else { return Ok(Repair::Nothing) };
    let present = addresses(socket, &link)?;
    let in_use = disk.upgrade().and_then(|disk| disk.link().local).map(|local| local.ip());
    Ok(decide(link.is_up, &present, in_use))
}

fn decide(is_up: bool, present: &[Ipv4Addr], in_use: Option<IpAddr>) -> Repair {
    match in_use {
        _ if !is_up || present.is_empty() => Repair::Restore,
        Some(IpAddr::V4(in_use)) if !present.contains(&in_use) && !in_use.is_loopback() => Repair::Reconnect,
        _ => Repair::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);

    #[test]
    fn a_card_that_is_off_or_bare_is_restored() {
        assert_eq!(decide(false, &[OURS], Some(OURS.into())), Repair::Restore);
        assert_eq!(decide(true, &[], Some(OURS.into())), Repair::Restore);
        assert_eq!(decide(true, &[], None), Repair::Restore);
    }

    #[test]
    fn another_address_is_the_guest_s_will() {
        assert_eq!(decide(true, &[OTHER], Some(OURS.into())), Repair::Reconnect);
        assert_eq!(decide(true, &[OTHER, OURS], Some(OURS.into())), Repair::Nothing);
        assert_eq!(decide(true, &[OTHER], None), Repair::Nothing);
    }
}
