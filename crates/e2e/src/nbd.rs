//! A small NBD client of our own, for workloads that go on while servers break.
//!
//! It shares no code with the server: `proto.md`, fixed newstyle, `NBD_OPT_EXPORT_NAME`, simple
//! replies, one request after the other. Nothing is retried; after an error the connection is of no
//! more use.

use crate::seat::Seat;
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long the server may be silent before its client looks elsewhere.
const SILENCE: Duration = Duration::from_secs(8);
const GREETING: &[u8; 16] = b"NBDMAGICIHAVEOPT";
const EXPORT_NAME: u32 = 1;
/// FIXED_NEWSTYLE and NO_ZEROES, on both sides.
const FLAGS: u16 = 3;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// An open export.
#[derive(Debug)]
pub struct Disk {
    socket: TcpStream,
    size_bytes: u64,
    cookie: u64,
}

/// What the server answered to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// Refused with this error number; the connection goes on.
    Refused(u32),
}

impl Disk {
    /// Opens `nbd://ADDRESS:PORT/NAME` from the host of `seat`. Moves the calling thread there.
    pub fn open(seat: &Seat, uri: &str) -> Result<Self> {
        let rest = uri.strip_prefix("nbd://").context("the address begins with nbd://")?;
        let (address, export) = rest.split_once('/').context("the address names an export")?;
        let mut socket = seat.connect(address)?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.set_write_timeout(Some(SILENCE))?;
        let mut greeting = [0; 18];
        socket.read_exact(&mut greeting)?;
        ensure!(greeting[..16] == GREETING[..], "no NBD server answers");
        let mut hello = u32::from(FLAGS).to_be_bytes().to_vec();
        hello.extend(b"IHAVEOPT");
        hello.extend(EXPORT_NAME.to_be_bytes());
        hello.extend((export.len() as u32).to_be_bytes());
        hello.extend(export.as_bytes());
        socket.write_all(&hello)?;
        let mut told = [0; 10];
        socket.read_exact(&mut told).context("the server does not know the export")?;
        let size_bytes = u64::from_be_bytes(told[..8].try_into()?);
        Ok(Self { socket, size_bytes, cookie: 0 })
    }

    /// The size of the disk.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills `buffer` from `offset` on.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<Answer> {
        self.send(0, offset, buffer.len() as u32, &[])?;
        let answer = self.reply()?;
        if answer == Answer::Done {
            self.socket.read_exact(buffer)?;
        }
        Ok(answer)
    }

    /// The whole disk; fails where the server refuses a part of it.
    pub fn read_all(&mut self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.size_bytes as usize];
        for (n, piece) in bytes.chunks_mut(1 << 20).enumerate() {
            match self.read((n as u64) << 20, piece)? {
                Answer::Done => {}
                Answer::Refused(error) => bail!("the server refused a read at {n} MiB with error {error}"),
            }
        }
        Ok(bytes)
    }

    /// Writes `bytes` at `offset`.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<Answer> {
        self.send(1, offset, bytes.len() as u32, bytes)?;
        self.reply()
    }

    /// Has everything that was written made durable.
    pub fn flush(&mut self) -> Result<Answer> {
        self.send(3, 0, 0, &[])?;
        self.reply()
    }

    fn send(&mut self, command: u16, offset: u64, len: u32, payload: &[u8]) -> Result<()> {
        self.cookie += 1;
        let mut request = REQUEST_MAGIC.to_be_bytes().to_vec();
        request.extend([0, 0]);
        request.extend(command.to_be_bytes());
        request.extend(self.cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(len.to_be_bytes());
        request.extend(payload);
        Ok(self.socket.write_all(&request)?)
    }

    fn reply(&mut self) -> Result<Answer> {
        let mut reply = [0; 16];
        self.socket.read_exact(&mut reply)?;
        let word = |at: usize| u32::from_be_bytes(reply[at..at + 4].try_into().expect("four bytes"));
        ensure!(word(0) == REPLY_MAGIC, "the server broke the protocol");
        ensure!(reply[8..] == self.cookie.to_be_bytes(), "the server answered another request");
        Ok(match word(4) {
            0 => Answer::Done,
            error => Answer::Refused(error),
        })
    }
}
