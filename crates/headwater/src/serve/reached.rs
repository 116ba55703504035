//! Where a device reached this server: the address it used is the one it is told to use again.
//!
//! A server behind an address translation (QEMU's user network, a port forward) or with several
//! interfaces cannot know which of its addresses a device can reach; the `Host` header of the
//! device's own request says it. It only ever shapes the answer to that same device, and only an
//! IP address is taken from it: there is no resolver in an initrd. `[http] advertise` overrides it.

use std::net::{IpAddr, SocketAddr};

/// Where devices reach this server's HTTP and NBD listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The HTTP listener, as the device sees it.
    pub(crate) http: SocketAddr,
    /// The NBD listener, as the device sees it.
    pub(crate) nbd: SocketAddr,
}

impl Reached {
    /// Decides from the configured address, else the request's `Host`, else the local end of its
    /// connection. `local` also supplies the port where the header has none but the default.
    pub(crate) fn decide(
        advertise: Option<IpAddr>,
        host: Option<&str>,
        local: SocketAddr,
        nbd_port: u16,
    ) -> Self {
        let http = match (advertise, host.and_then(parse_host)) {
            (Some(address), _) => SocketAddr::new(address, local.port()),
            (None, Some(told)) => told,
            (None, None) => local,
        };
        Self { http, nbd: SocketAddr::new(http.ip(), nbd_port) }
    }

    /// `http://address:port`, without a slash at the end.
    pub(crate) fn http_base(&self) -> String {
        format!("http://{}", self.http)
    }
}

/// An IP address with an optional port; names are not taken.
fn parse_host(host: &str) -> Option<SocketAddr> {
    const HTTP_PORT: u16 = 80;
    let bare = || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    host.parse().ok().or_else(|| bare().map(|ip| SocketAddr::new(ip, HTTP_PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "10.0.0.5:6900";

    fn decide(advertise: Option<&str>, host: Option<&str>) -> String {
        let advertise = advertise.map(|text| text.parse().unwrap());
        Reached::decide(advertise, host, LOCAL.parse().unwrap(), 10809).http_base()
    }

    #[test]
    fn a_device_is_told_the_address_it_used() {
        assert_eq!(decide(None, Some("10.0.2.2:6900")), "http://10.0.2.2:6900");
        assert_eq!(decide(None, Some("[fd00::1]:6900")), "http://[fd00::1]:6900");
        assert_eq!(decide(None, Some("10.0.2.2")), "http://10.0.2.2:80");
    }

    #[test]
    fn a_name_or_nothing_falls_back_to_the_connection() {
        assert_eq!(decide(None, Some("evil.example:1")), "http://10.0.0.5:6900");
        assert_eq!(decide(None, None), "http://10.0.0.5:6900");
    }

    #[test]
    fn the_configured_address_wins() {
        assert_eq!(decide(Some("192.0.2.7"), Some("10.0.2.2:6900")), "http://192.0.2.7:6900");
    }

    #[test]
    fn nbd_is_at_the_same_address() {
        let reached = Reached::decide(None, Some("10.0.2.2:6900"), LOCAL.parse().unwrap(), 10809);
        assert_eq!(reached.nbd.to_string(), "10.0.2.2:10809");
    }
}
