//! Whatever a client sends to the TFTP port, and to a transfer's port afterwards, is survived, and
//! no block outside the file is ever asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::tftp::{Outcome, Outgoing, Packet, Transfer};

/// A datagram for every byte that says how long it is.
fn datagrams(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first()?;
        let (datagram, after) = after.split_at(after.len().min(usize::from(*len)));
        rest = after;
        Some(datagram)
    })
}

fn check(outcome: &Outcome, size: u64) {
    assert!(outcome.send.len() <= 64);
    for outgoing in &outcome.send {
        if let Outgoing::Data { range, .. } = outgoing {
            assert!(range.start <= range.end && range.end <= size);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut datagrams = datagrams(data);
    let size = datagrams.next().map_or(0, |bytes| bytes.iter().map(|b| u64::from(*b)).sum());
    let Some(Ok(Packet::Read(request))) = datagrams.next().map(Packet::parse) else { return };
    let (mut transfer, outcome) = Transfer::begin(&request, size, 0);
    check(&outcome, size);
    for datagram in datagrams {
        let now_ms = transfer.deadline_ms();
        let outcome = match Packet::parse(datagram) {
            Ok(packet) => transfer.on_packet(&packet, now_ms),
            Err(_) => transfer.on_time(now_ms),
        };
        check(&outcome, size);
        if outcome.end.is_some() {
            return;
        }
    }
});
