//! One file on its way to one client.

use super::packet::{Packet, ReadRequest, option_ack};
use std::ops::Range;

const DEFAULT_BLOCK_SIZE: u16 = 512;
/// The largest window agreed to; beyond it, speed no longer rises (RFC 7440 section 6 measured 64).
const WINDOW_LIMIT: u16 = 64;
/// The most bytes in flight to one client; a switch's port buffer, by eye.
const FLIGHT_LIMIT: u64 = 256 << 10;
/// How long until a block is sent again, where the client did not say; doubles with every try.
const TIMEOUT_MS: u64 = 1000;
/// After the fourth doubling it stays.
const BACKOFF_LIMIT: u32 = 3;
/// Tries before a client counts as gone: 1 + 2 + 4 + 8 + 8 s.
const TRY_LIMIT: u32 = 5;

/// Something to send to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A packet as it is.
    Packet(Vec<u8>),
    /// A block: [`super::data_header`] of `block`, then the file's bytes in `range`.
    Data {
        /// The block's number, from 1.
        block: u64,
        /// Which bytes; empty for the last block of a file that ends at a block's end.
        range: Range<u64>,
    },
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has acknowledged the last block.
    Complete,
    /// The client sent an ERROR; usual after it has learned the size.
    Aborted {
        /// The code.
        code: u16,
        /// Its text.
        message: String,
    },
    /// The client does not answer any more.
    Abandoned,
}

/// What follows from an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What to send, in order.
    pub send: Vec<Outgoing>,
    /// Set once, when the transfer is over.
    pub end: Option<End>,
}

/// The state of a transfer. Times are milliseconds of any steady clock.
#[derive(Clone, Debug)]
pub struct Transfer {
    size: u64,
    block_size: u64,
    window: u64,
    timeout_ms: u64,
    /// The option acknowledgement, until the client's first ACK answers it.
    oack: Option<Vec<u8>>,
    /// Blocks that the client has.
    acknowledged: u64,
    /// Blocks sent.
    sent: u64,
    tries: u32,
    /// Whether the present window was already sent again because of a repeated ACK.
    resent: bool,
    deadline_ms: u64,
}

impl Transfer {
    /// Begins to send a file of `size` bytes.
    pub fn begin(request: &ReadRequest, size: u64, now_ms: u64) -> (Self, Outcome) {
        let block_size = u64::from(request.block_size.unwrap_or(DEFAULT_BLOCK_SIZE));
        let most = (FLIGHT_LIMIT / block_size).clamp(1, u64::from(WINDOW_LIMIT));
        let window = u64::from(request.window_size.unwrap_or(1)).min(most);
        let timeout_ms = request.timeout_s.map_or(TIMEOUT_MS, |seconds| u64::from(seconds) * 1000);
        let mut transfer = Self {
            size,
            block_size,
            window,
            timeout_ms,
            oack: None,
            acknowledged: 0,
            sent: 0,
            tries: 0,
            resent: false,
            deadline_ms: 0,
        };
        transfer.oack = transfer.option_ack(request);
        let send = transfer.send_again();
        transfer.rearm(now_ms);
        (transfer, Outcome { send, end: None })
    }

    /// When [`Self::on_time`] is due.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// A packet came from the client.
    pub fn on_packet(&mut self, packet: &Packet, now_ms: u64) -> Outcome {
        match packet {
            Packet::Ack(number) => self.on_ack(*number, now_ms),
            Packet::Error { code, message } => ended(End::Aborted { code: *code, message: message.clone() }),
            Packet::Read(_) | Packet::Write | Packet::Unexpected => Outcome::default(),
        }
    }

    /// Time has passed: nothing before the deadline, after it the last packets again.
    pub fn on_time(&mut self, now_ms: u64) -> Outcome {
        if now_ms < self.deadline_ms {
            return Outcome::default();
        }
        self.tries += 1;
        if self.tries >= TRY_LIMIT {
            return ended(End::Abandoned);
        }
        self.rearm(now_ms);
        Outcome { send: self.send_again(), end: None }
    }

    fn on_ack(&mut self, number: u16, now_ms: u64) -> Outcome {
        // Numbers wrap at 65,536; a window is far smaller, so the distance is unambiguous.
        let ahead = u64::from(number.wrapping_sub((self.acknowledged & 0xffff) as u16));
        if ahead > self.sent - self.acknowledged {
            return Outcome::default();
        }
        if self.oack.take().is_none() && ahead == 0 && !self.may_resend() {
            return Outcome::default();
        }
        if ahead > 0 {
            self.acknowledged += ahead;
            self.resent = false;
        }
        self.tries = 0;
        if self.acknowledged == self.blocks() {
            return ended(End::Complete);
        }
        self.rearm(now_ms);
        Outcome { send: self.send_again(), end: None }
    }

    /// A repeated ACK means that the window's first block was lost (RFC 7440 section 4) - once. With
    /// single blocks it is ignored, or each delayed packet would double the traffic (the
    /// Sorcerer's Apprentice, RFC 1123 section 4.2.3.1).
    fn may_resend(&mut self) -> bool {
        self.window > 1 && !std::mem::replace(&mut self.resent, true)
    }

    /// What the client lacks, from the first block that it has not acknowledged.
    fn send_again(&mut self) -> Vec<Outgoing> {
        if let Some(oack) = &self.oack {
            return vec![Outgoing::Packet(oack.clone())];
        }
        let end = (self.acknowledged + self.window).min(self.blocks());
        self.sent = end;
        (self.acknowledged..end).map(|index| self.block(index)).collect()
    }

    fn block(&self, index: u64) -> Outgoing {
        let start = index * self.block_size;
        let end = (start + self.block_size).min(self.size);
        Outgoing::Data { block: index + 1, range: start..end }
    }

    /// The number of blocks: the last one is shorter than a block, and may be empty.
    fn blocks(&self) -> u64 {
        self.size / self.block_size + 1
    }

    fn rearm(&mut self, now_ms: u64) {
        self.deadline_ms = now_ms + (self.timeout_ms << self.tries.min(BACKOFF_LIMIT));
    }

    fn option_ack(&self, request: &ReadRequest) -> Option<Vec<u8>> {
        let options = [
            ("blksize", request.block_size.map(u64::from)),
            ("tsize", request.wants_size.then_some(self.size)),
            ("timeout", request.timeout_s.map(u64::from)),
            ("windowsize", request.window_size.map(|_| self.window)),
        ];
        let agreed: Vec<_> = options.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        (!agreed.is_empty()).then(|| option_ack(&agreed))
    }
}

fn ended(end: End) -> Outcome {
    Outcome { send: Vec::new(), end: Some(end) }
}

#[cfg(test)]
mod tests;
