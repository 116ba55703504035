//! Which device has an address: the kernel's ARP table, which knows everybody who was just sent to.

use model::MacAddress;
use std::net::IpAddr;

/// The MAC address behind a neighbour's IPv4 address; none for others.
pub(crate) fn mac_of(address: IpAddr) -> Option<MacAddress> {
    // The thread's own network namespace, which /proc/net need not be.
    find(&std::fs::read_to_string("/proc/thread-self/net/arp").ok()?, address)
}

/// Lines are `IP HW-TYPE FLAGS MAC MASK DEVICE` (Documentation/networking/proc_net).
fn find(table: &str, address: IpAddr) -> Option<MacAddress> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.next()?.parse() == Ok(address);
        let mac = words.nth(2)?;
        is_it.then(|| mac.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
            10.0.0.9         0x1         0x0         00:00:00:00:00:00     *        br0\n\
            10.0.0.7         0x1         0x2         52:54:00:12:34:56     *        br0\n";
        let mac = find(table, IpAddr::from([10, 0, 0, 7]));
        assert_eq!(mac, Some("52:54:00:12:34:56".parse().unwrap()));
        assert_eq!(find(table, IpAddr::from([10, 0, 0, 9])), None);
        assert_eq!(find("", IpAddr::from([10, 0, 0, 7])), None);
    }
}
