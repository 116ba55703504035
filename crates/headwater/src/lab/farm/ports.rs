//! Ports that stay free while a server that had them is down.
//!
//! Not the system's choice: a port of the range that it gives to outgoing connections may be taken
//! by one before the server is started again.

use super::super::trouble::Trouble;
use std::net::TcpListener;

/// Where to look: below the range of outgoing connections on Linux (32768 and up).
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// As many different ports of the loopback as asked for that nobody listens on now. Two labs on one
/// machine begin at different places.
pub(super) fn free(count: usize) -> Result<Vec<u16>, Trouble> {
    let span = u32::from(RANGE.end - RANGE.start);
    let first = std::process::id().wrapping_mul(64) % span;
    let all = (0..span).map(|n| RANGE.start + ((first + n) % span) as u16);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let found: Vec<u16> = all.filter(is_free).take(count).collect();
    match found.len() == count {
        true => Ok(found),
        false => Err(Trouble::new(
            format!("fewer than {count} ports from {} to {} are free", RANGE.start, RANGE.end),
            "end what listens there",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different_and_can_be_bound() {
        let ports = free(5).unwrap();
        let bound: Vec<_> = ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port))).collect();
        assert_eq!(bound.iter().filter(|listener| listener.is_ok()).count(), 5);
    }
}
