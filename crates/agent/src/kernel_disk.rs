//! `/dev/nbd0`: the kernel's NBD driver, given one end of a socket pair.
//!
//! By generic netlink (`drivers/block/nbd.c`, `NBD_CMD_CONNECT`) and not by the older ioctls:
//! those hold a thread inside `NBD_DO_IT` for the disk's whole life, and any signal to that
//! thread ends the disk; here the disk lives as long as the socket does. There is no time-out:
//! with one connection the driver then only logs that a request takes long, and waits for the
//! agent, which is the one that knows whether another server can answer.

use crate::netlink::{Answer, Message, Socket, attributes, put_attribute, put_nested};
use protocol::nbd::wire::transmission_flag as flag;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NBD_CMD_CONNECT: u8 = 1;
const NBD_ATTR_INDEX: u16 = 1;
const NBD_ATTR_SIZE_BYTES: u16 = 2;
const NBD_ATTR_BLOCK_SIZE_BYTES: u16 = 3;
const NBD_ATTR_SERVER_FLAGS: u16 = 5;
const NBD_ATTR_SOCKETS: u16 = 7;
const NBD_SOCK_ITEM: u16 = 1;
const NBD_SOCK_FD: u16 = 1;

/// Partition tables count in this unit, and images are made for disks that have it.
const BLOCK_BYTES: u64 = 512;
/// What the agent's end does.
const SERVER_FLAGS: u16 =
    flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA | flag::SEND_TRIM | flag::SEND_WRITE_ZEROES;

/// Why the kernel has no disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The driver is not there.
    #[error("the kernel has no NBD driver ({0})\nhint: the image needs the module nbd for its kernel")]
    NoDriver(io::Error),
    /// The driver refused.
    #[error("the kernel refused the disk: {0}")]
    Refused(io::Error),
}

/// Gives the kernel its end of a socket pair as `/dev/nbd0`.
pub(crate) fn attach(socket: &UnixStream, size_bytes: u64) -> Result<PathBuf, AttachError> {
    let mut generic = Socket::generic().map_err(AttachError::NoDriver)?;
    let family = family_id(&mut generic).map_err(AttachError::NoDriver)?;
    generic.request(connect_message(family, socket, size_bytes)).map_err(AttachError::Refused)?;
    Ok(Path::new("/dev/nbd0").to_path_buf())
}

/// The fixed header of generic netlink: command, version, reserved.
fn generic_header(command: u8) -> [u8; 4] {
    [command, 1, 0, 0]
}

fn family_id(generic: &mut Socket) -> io::Result<u16> {
    let message = Message::new(GENL_ID_CTRL, &generic_header(CTRL_CMD_GETFAMILY))
        .attribute(CTRL_ATTR_FAMILY_NAME, b"nbd\0");
    let answers = generic.request(message)?;
    answers.iter().find_map(family_of).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn family_of(answer: &Answer) -> Option<u16> {
    let (_, value) = attributes(answer.body.get(4..)?).find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)?;
    Some(u16::from_ne_bytes(value.try_into().ok()?))
}

fn connect_message(family: u16, socket: &UnixStream, size_bytes: u64) -> Message {
    let (mut item, mut items) = (Vec::new(), Vec::new());
    put_attribute(&mut item, NBD_SOCK_FD, &socket.as_raw_fd().to_ne_bytes());
    put_nested(&mut items, NBD_SOCK_ITEM, &item);
    Message::new(family, &generic_header(NBD_CMD_CONNECT))
        .attribute(NBD_ATTR_INDEX, &0u32.to_ne_bytes())
        .attribute(NBD_ATTR_SIZE_BYTES, &size_bytes.to_ne_bytes())
        .attribute(NBD_ATTR_BLOCK_SIZE_BYTES, &BLOCK_BYTES.to_ne_bytes())
        .attribute(NBD_ATTR_SERVER_FLAGS, &u64::from(SERVER_FLAGS).to_ne_bytes())
        .nested(NBD_ATTR_SOCKETS, &items)
}
