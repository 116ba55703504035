//! A writing NBD client: several requests in flight, and nothing is retried.

use crate::nbd::load;
use anyhow::{Context, Result, bail, ensure};
use protocol::nbd::{Command, RequestHeader};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Magic, error, cookie (NBD proto.md, "Simple reply message").
const REPLY_BYTES: usize = 16;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// An open export.
#[derive(Debug)]
pub struct Writer {
    socket: TcpStream,
    size_bytes: u64,
    cookie: u64,
}

/// One change of the disk.
#[derive(Clone, Debug)]
pub struct Request {
    /// WRITE, TRIM or WRITE_ZEROES.
    pub command: Command,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub len: u32,
    /// The bytes of a WRITE.
    pub data: Vec<u8>,
}

impl Writer {
    /// Opens the export of an `nbd://ADDRESS:PORT/NAME`.
    pub fn open(uri: &str) -> Result<Self> {
        let rest = uri.strip_prefix("nbd://").context("the address begins with nbd://")?;
        let (address, export) = rest.split_once('/').context("the address names an export")?;
        let (socket, size_bytes) = load::open(address.parse()?, export)?;
        Ok(Self { socket, size_bytes, cookie: 0 })
    }

    /// The size of the disk in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Sends all requests at once and waits until each is acknowledged.
    pub fn change(&mut self, requests: &[Request]) -> Result<()> {
        let mut bytes = Vec::new();
        for request in requests {
            bytes.extend(self.header(request.command, request.offset, request.len));
            bytes.extend(&request.data);
        }
        self.socket.write_all(&bytes)?;
        requests.iter().try_for_each(|_| self.reply())
    }

    /// FLUSH, acknowledged.
    pub fn flush(&mut self) -> Result<()> {
        let header = self.header(Command::Flush, 0, 0);
        self.socket.write_all(&header)?;
        self.reply()
    }

    /// Reads `buffer.len()` bytes from `offset` on.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let header = self.header(Command::Read, offset, buffer.len() as u32);
        self.socket.write_all(&header)?;
        self.reply()?;
        Ok(self.socket.read_exact(buffer)?)
    }

    /// The whole disk.
    pub fn read_all(&mut self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.size_bytes as usize];
        for (offset, piece) in (0..).step_by(1 << 20).zip(bytes.chunks_mut(1 << 20)) {
            self.read(offset, piece)?;
        }
        Ok(bytes)
    }

    fn header(&mut self, command: Command, offset: u64, len: u32) -> [u8; 28] {
        self.cookie += 1;
        RequestHeader::new(command, self.cookie, offset, len).encode()
    }

    /// One reply, which must say that all is well; they may come in any order.
    fn reply(&mut self) -> Result<()> {
        let mut bytes = [0; REPLY_BYTES];
        self.socket.read_exact(&mut bytes)?;
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        ensure!(word(0) == REPLY_MAGIC, "the server broke the protocol");
        match word(4) {
            0 => Ok(()),
            error => bail!("the server refused a request with error {error}"),
        }
    }
}
