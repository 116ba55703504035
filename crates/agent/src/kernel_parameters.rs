//! What the loader's script put on the kernel's command line (see `protocol::plan`).

use model::MacAddress;
use protocol::plan::{ADDRESS_PARAMETER, PLAN_PARAMETER};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The most plan URLs that are tried: one for each server of the largest farm, with room.
const MAX_URLS: usize = 64;

/// The address that the loader used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoaderAddress {
    /// The device's own address.
    pub(crate) address: Ipv4Addr,
    /// Leading one bits of the network mask: 1 to 32.
    pub(crate) prefix_len: u8,
    /// Where other networks are reached, if the loader was told.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// The network card.
    pub(crate) mac: MacAddress,
}

/// What the agent takes from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelParameters {
    /// Where to get the plan, in the order to try; never empty.
    pub(crate) plan_urls: Vec<String>,
    /// How to reach it.
    pub(crate) address: LoaderAddress,
}

/// Why the command line cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    /// A parameter is not there.
    #[error("the kernel command line has no {0}=\nhint: boot through Headwater's iPXE script, which adds it")]
    Missing(&'static str),
    /// A parameter is there and says nothing usable.
    #[error("the kernel parameter {name}={value} is wrong: {reason}")]
    Bad {
        /// The parameter.
        name: &'static str,
        /// What it says, cut at 100 characters.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl KernelParameters {
    /// Reads the contents of `/proc/cmdline`. The last of several equal parameters counts.
    pub(crate) fn parse(cmdline: &str) -> Result<Self, ParameterError> {
        let urls = find(cmdline, PLAN_PARAMETER)?;
        let plan_urls: Vec<String> =
            urls.split(',').filter(|url| !url.is_empty()).take(MAX_URLS).map(str::to_owned).collect();
        if plan_urls.is_empty() || plan_urls.iter().any(|url| !url.starts_with("http://")) {
            return Err(bad(PLAN_PARAMETER, urls, "http:// URLs, separated by commas, are expected"));
        }
        Ok(Self { plan_urls, address: LoaderAddress::parse(find(cmdline, ADDRESS_PARAMETER)?)? })
    }
}

impl LoaderAddress {
    /// Reads `ADDRESS/NETMASK/GATEWAY/MAC`; the gateway may be empty.
    pub(crate) fn parse(text: &str) -> Result<Self, ParameterError> {
        let wrong = |reason| bad(ADDRESS_PARAMETER, text, reason);
        let parts: Vec<&str> = text.split('/').collect();
        let [address, mask, gateway, mac] = parts[..] else {
            return Err(wrong("ADDRESS/NETMASK/GATEWAY/MAC is expected"));
        };
        let mask: Ipv4Addr = mask.parse().map_err(|_| wrong("the network mask is no address"))?;
        let gateway = match gateway {
            "" | "0.0.0.0" => None,
            text => Some(text.parse().map_err(|_| wrong("the gateway is no address"))?),
        };
        Ok(Self {
            address: address.parse().map_err(|_| wrong("the address is none"))?,
            prefix_len: prefix_len(mask).ok_or_else(|| wrong("the network mask has gaps"))?,
            gateway,
            mac: mac.parse().map_err(|_| wrong("the MAC address is none"))?,
        })
    }
}

fn prefix_len(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (ones > 0 && bits.count_ones() == ones).then_some(ones as u8)
}

fn find<'a>(cmdline: &'a str, name: &'static str) -> Result<&'a str, ParameterError> {
    cmdline
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .next_back()
        .ok_or(ParameterError::Missing(name))
}

fn bad(name: &'static str, value: &str, reason: &'static str) -> ParameterError {
    ParameterError::Bad { name, value: value.chars().take(100).collect(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "headwater.ip=10.0.0.9/255.255.255.0/10.0.0.1/52:54:00:12:34:56";

    #[test]
    fn a_command_line_gives_urls_and_the_loader_s_address() {
        let line = format!("quiet headwater.plan=http://10.0.0.1/p,http://10.0.0.2/p {ADDRESS} root=x\n");
        let parameters = KernelParameters::parse(&line).unwrap();
        assert_eq!(parameters.plan_urls, ["http://10.0.0.1/p", "http://10.0.0.2/p"]);
        assert_eq!(parameters.address.address, Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(parameters.address.prefix_len, 24);
        assert_eq!(parameters.address.gateway, Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn a_gateway_may_be_missing() {
        let address = LoaderAddress::parse("10.0.0.9/255.255.0.0//52:54:00:12:34:56").unwrap();
        assert_eq!((address.gateway, address.prefix_len), (None, 16));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(KernelParameters::parse("quiet"), Err(ParameterError::Missing(PLAN_PARAMETER)));
        let line = format!("headwater.plan=nfs://x {ADDRESS}");
        assert!(matches!(
            KernelParameters::parse(&line),
            Err(ParameterError::Bad { name: PLAN_PARAMETER, .. })
        ));
        for bad in
            ["", "1/2/3/4", "10.0.0.9/255.0.255.0//52:54:00:12:34:56", "10.0.0.9/0.0.0.0//52:54:00:12:34:56"]
        {
            assert!(LoaderAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
