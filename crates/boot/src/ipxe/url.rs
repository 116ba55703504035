//! A URL that is safe in a script, in a kernel's command line and in a DHCP option.

use std::fmt;
use std::net::SocketAddr;

/// `http://ADDRESS:PORT/PATH`, where the path has only letters, digits and `/._~-?=&:`.
///
/// Addresses, not names: neither iPXE scripts on boot media nor an initrd can count on a resolver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpUrl {
    server: SocketAddr,
    path: String,
}

/// Why a path cannot stand in such a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the path of a boot URL: it must begin with / and have at most 512 letters, digits and /._~-?=&:"
)]
pub struct InvalidUrl(String);

impl HttpUrl {
    /// A URL on `server`; `path` begins with `/` and may carry a query.
    pub fn new(server: SocketAddr, path: &str) -> Result<Self, InvalidUrl> {
        let is_safe = |c: char| c.is_ascii_alphanumeric() || "/._~-?=&:".contains(c);
        if !path.starts_with('/') || path.len() > 512 || !path.chars().all(is_safe) {
            return Err(InvalidUrl(path.chars().take(80).collect()));
        }
        Ok(Self { server, path: path.to_owned() })
    }

    /// Address and port, for messages.
    pub fn host(&self) -> String {
        self.server.to_string()
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.server, self.path)
    }
}
