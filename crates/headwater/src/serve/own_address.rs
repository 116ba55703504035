//! Which interface and address of this machine DHCP and TFTP speak for.

use std::net::Ipv4Addr;

/// An interface with its first IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
}

/// Why no interface was chosen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoInterface {
    #[error("there is no interface {wanted} with an IPv4 address\nhint: there are {there}")]
    NotThere { wanted: String, there: String },
    #[error("no interface has an IPv4 address")]
    None,
    #[error("which interface is meant? there are {0}\nhint: set dhcp.interface")]
    Many(String),
    #[error("the interfaces cannot be listed: {0}")]
    System(String),
}

/// The interface called `wanted`; without a name the only one beside the loopback.
pub(crate) fn find(wanted: Option<&str>) -> Result<Interface, NoInterface> {
    choose(wanted, interfaces().map_err(|error| NoInterface::System(error.to_string()))?)
}

fn choose(wanted: Option<&str>, all: Vec<Interface>) -> Result<Interface, NoInterface> {
    let list = |all: &[Interface]| {
        let names: Vec<_> = all.iter().map(|one| format!("{} ({})", one.name, one.address)).collect();
        names.join(", ")
    };
    if let Some(wanted) = wanted {
        let not_there = || NoInterface::NotThere { wanted: wanted.to_owned(), there: list(&all) };
        return all.iter().find(|one| one.name == wanted).cloned().ok_or_else(not_there);
    }
    let outside: Vec<Interface> = all.into_iter().filter(|one| !one.address.is_loopback()).collect();
    match outside.as_slice() {
        [] => Err(NoInterface::None),
        [one] => Ok(one.clone()),
        many => Err(NoInterface::Many(list(many))),
    }
}

/// The first IPv4 address of each interface that is up.
fn interfaces() -> nix::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for one in nix::ifaddrs::getifaddrs()? {
        let address = one.address.as_ref().and_then(|address| address.as_sockaddr_in()).map(|v4| v4.ip());
        let is_new = !found.iter().any(|known| known.name == one.interface_name);
        if let (Some(address), true) = (address, is_new) {
            found.push(Interface { name: one.interface_name, address });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, last: u8) -> Interface {
        let address = if name == "lo" { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(10, 0, 0, last) };
        Interface { name: name.to_owned(), address }
    }

    #[test]
    fn the_only_one_is_taken_and_several_are_asked_about() {
        let all = vec![interface("lo", 0), interface("eth0", 5)];
        assert_eq!(choose(None, all.clone()).unwrap().name, "eth0");
        let two = [all, vec![interface("eth1", 6)]].concat();
        let error = choose(None, two.clone()).unwrap_err().to_string();
        assert!(error.contains("eth0 (10.0.0.5), eth1 (10.0.0.6)"), "{error}");
        assert_eq!(choose(Some("eth1"), two.clone()).unwrap().address, Ipv4Addr::new(10, 0, 0, 6));
        assert!(choose(Some("eth7"), two).unwrap_err().to_string().contains("eth7"));
    }

    #[test]
    fn this_machine_has_a_loopback() {
        assert_eq!(find(Some("lo")).unwrap().address, Ipv4Addr::LOCALHOST);
    }
}
