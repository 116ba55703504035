//! What to say when a port cannot be had.

use std::io;
use std::net::SocketAddr;

/// Says what happened and what to do; `key` is the configuration's key of the address.
pub(super) fn listen_message(address: SocketAddr, key: &str, error: &io::Error) -> String {
    let port = address.port();
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program has port {port}: `ss -ltnp 'sport = :{port}'` shows it; stop it, or set {key}"
        ),
        io::ErrorKind::PermissionDenied => format!("ports below 1024 need root: set {key}"),
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine: set {key}", address.ip())
        }
        _ => format!("set {key}"),
    };
    format!("cannot listen on {address} ({key}): {error}\nhint: {hint}")
}
