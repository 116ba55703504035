//! Just enough netlink: requests with attributes, acknowledgements and dumps (Linux,
//! `Documentation/userspace-api/netlink/intro.rst`).
//!
//! Written by hand because the two dozen messages that the agent needs are less code than the
//! crates for them, and because the socket stays usable when `/proc`, `/sys` and `/dev` are gone
//! from the agent's view. Integers are in the machine's byte order.

use rustix::fd::OwnedFd;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::time::Duration;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// Creates what is not there.
pub(crate) const NLM_F_CREATE: u16 = 0x400;
/// Replaces what is there.
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER_BYTES: usize = 16;
/// The kernel answers a request within microseconds; a longer wait means a kernel bug.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A message under construction.
pub(crate) struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// A request of a kind with its fixed header.
    pub(crate) fn new(kind: u16, fixed: &[u8]) -> Self {
        Self { kind, flags: NLM_F_REQUEST, body: fixed.to_vec() }
    }

    /// Adds flags of the request.
    pub(crate) fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// Appends an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        put_attribute(&mut self.body, kind, value);
        self
    }

    /// Appends an attribute that holds attributes.
    pub(crate) fn nested(self, kind: u16, attributes: &[u8]) -> Self {
        self.attribute(kind | NLA_F_NESTED, attributes)
    }

    fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.body.len());
        bytes.extend_from_slice(&((HEADER_BYTES + self.body.len()) as u32).to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Encodes one attribute, padded to four bytes.
pub(crate) fn put_attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// Encodes an attribute that holds attributes.
pub(crate) fn put_nested(to: &mut Vec<u8>, kind: u16, attributes: &[u8]) {
    put_attribute(to, kind | NLA_F_NESTED, attributes);
}

/// The attributes of a message's body, in order; ends at the first that makes no sense.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A message from the kernel: its kind and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The message's kind.
    pub(crate) kind: u16,
    /// What follows the header.
    pub(crate) body: Vec<u8>,
    sequence: u32,
}

/// A netlink socket.
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket for routing messages.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(None, 0)
    }

    /// Opens a socket for generic netlink.
    pub(crate) fn generic() -> io::Result<Self> {
        Self::open(Some(netlink::GENERIC), 0)
    }

    /// Opens a socket that hears of changes to links, IPv4 addresses and IPv4 routes.
    pub(crate) fn route_events() -> io::Result<Self> {
        const RTMGRP_LINK: u32 = 1;
        const RTMGRP_IPV4_IFADDR: u32 = 0x10;
        const RTMGRP_IPV4_ROUTE: u32 = 0x40;
        Self::open(None, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE)
    }

    /// `NETLINK_ROUTE` is protocol 0, which is also what no protocol means.
    fn open(protocol: Option<rustix::net::Protocol>, groups: u32) -> io::Result<Self> {
        let kind = (AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC);
        let fd = rustix::net::socket_with(kind.0, kind.1, kind.2, protocol)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        let socket = Self { fd, sequence: 0 };
        socket.set_timeout(ANSWER_WITHIN)?;
        Ok(socket)
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        use rustix::net::sockopt::{Timeout, set_socket_timeout};
        Ok(set_socket_timeout(&self.fd, Timeout::Recv, Some(timeout))?)
    }

    /// Sends a request and waits until the kernel has done it; answers what it sent before.
    pub(crate) fn request(&mut self, message: Message) -> io::Result<Vec<Answer>> {
        self.exchange(message.flags(NLM_F_ACK))
    }

    /// Sends a request for a list.
    pub(crate) fn dump(&mut self, message: Message) -> io::Result<Vec<Answer>> {
        self.exchange(message.flags(NLM_F_DUMP))
    }

    fn exchange(&mut self, message: Message) -> io::Result<Vec<Answer>> {
        self.sequence += 1;
        rustix::net::send(&self.fd, &message.encode(self.sequence), SendFlags::empty())?;
        let mut found = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer.kind {
                    _ if answer.sequence != self.sequence => {}
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => return error_of(&answer.body).map_or(Ok(found), Err),
                    _ => found.push(answer),
                }
            }
        }
    }

    /// Waits for messages that were not asked for, at most `timeout`; none where it passed.
    pub(crate) fn wait_event(&self, timeout: Duration) -> io::Result<Vec<Answer>> {
        self.set_timeout(timeout)?;
        match self.receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            other => other,
        }
    }

    fn receive(&self) -> io::Result<Vec<Answer>> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match rustix::net::recv(&self.fd, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((len, _)) => return Ok(messages(&buffer[..len])),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn error_of(body: &[u8]) -> Option<io::Error> {
    let number = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    (number != 0).then(|| io::Error::from_raw_os_error(-number))
}

fn messages(mut bytes: &[u8]) -> Vec<Answer> {
    let mut found = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(HEADER_BYTES..len) else { break };
        found.push(Answer {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body: body.to_vec(),
        });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let mut bytes = Vec::new();
        put_attribute(&mut bytes, 3, b"abcde");
        let mut inner = Vec::new();
        put_attribute(&mut inner, 1, &7u32.to_ne_bytes());
        put_nested(&mut bytes, 9, &inner);
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found[0], (3, &b"abcde"[..]));
        assert_eq!(found[1].0, 9);
        assert_eq!(attributes(found[1].1).next(), Some((1, &7u32.to_ne_bytes()[..])));
    }

    #[test]
    fn bytes_that_are_no_messages_are_left_alone() {
        assert_eq!(messages(&[0xff; 40]), []);
        assert_eq!(messages(&[0; 15]), []);
        assert_eq!(messages(&[0; 64]).len(), 0);
        assert_eq!(attributes(&[0; 8]).count(), 0);
    }

    #[test]
    fn the_kernel_lists_its_links() {
        let mut socket = Socket::route().unwrap();
        const RTM_GETLINK: u16 = 18;
        assert!(!socket.dump(Message::new(RTM_GETLINK, &[0; 16])).unwrap().is_empty());
        let unknown = socket.request(Message::new(RTM_GETLINK, &[0; 16]).attribute(3, b"no-such-link\0"));
        assert_eq!(unknown.unwrap_err().raw_os_error(), Some(19));
    }
}
