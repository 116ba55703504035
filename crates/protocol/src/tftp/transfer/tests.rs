//! Tests of `tftp::transfer`.

use super::*;
use proptest::prelude::*;

fn request(block_size: Option<u16>, window_size: Option<u16>) -> ReadRequest {
    ReadRequest { file: "f".to_owned(), block_size, window_size, ..ReadRequest::default() }
}

fn blocks(send: &[Outgoing]) -> Vec<u64> {
    let number = |send: &Outgoing| match send {
        Outgoing::Data { block, .. } => Some(*block),
        Outgoing::Packet(_) => None,
    };
    send.iter().filter_map(number).collect()
}

#[test]
fn a_plain_request_gets_the_first_block_at_once() {
    let (mut transfer, outcome) = Transfer::begin(&request(None, None), 513, 0);
    assert_eq!(outcome.send, [Outgoing::Data { block: 1, range: 0..512 }]);
    let outcome = transfer.on_packet(&Packet::Ack(1), 1);
    assert_eq!(outcome.send, [Outgoing::Data { block: 2, range: 512..513 }]);
    assert_eq!(transfer.on_packet(&Packet::Ack(2), 2).end, Some(End::Complete));
}

#[test]
fn a_file_that_fills_its_last_block_ends_with_an_empty_one() {
    let (mut transfer, _) = Transfer::begin(&request(None, None), 512, 0);
    let outcome = transfer.on_packet(&Packet::Ack(1), 1);
    assert_eq!(outcome.send, [Outgoing::Data { block: 2, range: 512..512 }]);
}

#[test]
fn options_are_acknowledged_before_data() {
    let mut wanted = request(Some(1456), Some(100));
    wanted.wants_size = true;
    let (mut transfer, outcome) = Transfer::begin(&wanted, 10_000_000, 0);
    let oack = b"\0\x06blksize\x001456\0tsize\x0010000000\0windowsize\x0064\0".to_vec();
    assert_eq!(outcome.send, [Outgoing::Packet(oack)]);
    let outcome = transfer.on_packet(&Packet::Ack(0), 1);
    assert_eq!(blocks(&outcome.send), (1..=64).collect::<Vec<_>>());
}

#[test]
fn an_error_after_the_size_ends_it_at_once() {
    let mut probe = request(None, None);
    probe.wants_size = true;
    let (mut transfer, _) = Transfer::begin(&probe, 70_000, 0);
    let error = Packet::Error { code: 8, message: "TFTP Aborted".to_owned() };
    let outcome = transfer.on_packet(&error, 1);
    assert!(matches!(outcome.end, Some(End::Aborted { code: 8, .. })));
    assert!(outcome.send.is_empty());
}

#[test]
fn a_lost_block_in_a_window_is_sent_again_with_what_follows() {
    let (mut transfer, _) = Transfer::begin(&request(Some(512), Some(4)), 512 * 100, 0);
    transfer.on_packet(&Packet::Ack(0), 1);
    let outcome = transfer.on_packet(&Packet::Ack(2), 2);
    assert_eq!(blocks(&outcome.send), [3, 4, 5, 6]);
    let again = transfer.on_packet(&Packet::Ack(2), 3);
    assert_eq!(blocks(&again.send), [3, 4, 5, 6]);
    assert!(transfer.on_packet(&Packet::Ack(2), 4).send.is_empty());
}

#[test]
fn a_repeated_ack_of_a_single_block_is_not_answered() {
    let (mut transfer, _) = Transfer::begin(&request(None, None), 5000, 0);
    transfer.on_packet(&Packet::Ack(1), 1);
    assert_eq!(transfer.on_packet(&Packet::Ack(1), 2), Outcome::default());
    assert_eq!(transfer.on_packet(&Packet::Ack(9), 3), Outcome::default());
}

#[test]
fn a_silent_client_is_given_up_within_half_a_minute() {
    let (mut transfer, _) = Transfer::begin(&request(None, None), 5000, 0);
    let mut sends = 0;
    loop {
        let now_ms = transfer.deadline_ms();
        assert!(now_ms < 30_000);
        let outcome = transfer.on_time(now_ms);
        sends += outcome.send.len();
        if let Some(end) = outcome.end {
            assert_eq!(end, End::Abandoned);
            break;
        }
    }
    assert_eq!(sends, 4);
}

#[test]
fn large_blocks_in_large_windows_are_bounded() {
    let (mut transfer, _) = Transfer::begin(&request(Some(65_464), Some(64)), 10 << 20, 0);
    assert_eq!(blocks(&transfer.on_packet(&Packet::Ack(0), 1).send).len(), 4);
}

/// A client that takes blocks in order and acknowledges the last one of every window.
struct Client {
    content: Vec<u8>,
    received: u64,
    complete: bool,
    block_size: u64,
}

impl Client {
    fn take(&mut self, send: &Outgoing, file: &[u8]) {
        if let Outgoing::Data { block, range } = send
            && *block == self.received + 1
        {
            let bytes = &file[range.start as usize..range.end as usize];
            self.content.extend(bytes);
            self.received += 1;
            self.complete = (bytes.len() as u64) < self.block_size;
        }
    }
}

proptest! {
    /// Whatever is lost or doubled on the way, the file arrives whole or the transfer ends.
    #[test]
    fn the_file_arrives_through_a_bad_network(
        size in 0usize..40_000,
        block_size in 8u16..2000,
        window in proptest::option::of(1u16..80),
        fates in proptest::collection::vec(0u8..10, 1..400),
    ) {
        let file: Vec<u8> = (0..size).map(|index| (index * 7) as u8).collect();
        let (mut transfer, outcome) = Transfer::begin(&request(Some(block_size), window), size as u64, 0);
        let mut client = Client {
            content: Vec::new(), received: 0, complete: false, block_size: u64::from(block_size),
        };
        let mut fates = fates.into_iter();
        let mut on_the_way = outcome.send;
        let mut now_ms = 0;
        for _ in 0..200_000 {
            for send in on_the_way.drain(..) {
                // 0: lost; after the list ends the network is good.
                if fates.next() != Some(0) {
                    client.take(&send, &file);
                }
            }
            let outcome = if fates.next() == Some(0) {
                now_ms = transfer.deadline_ms();
                transfer.on_time(now_ms)
            } else {
                transfer.on_packet(&Packet::Ack((client.received & 0xffff) as u16), now_ms)
            };
            if let Some(end) = outcome.end {
                if end == End::Complete {
                    prop_assert!(client.complete);
                    prop_assert_eq!(&client.content, &file);
                }
                return Ok(());
            }
            on_the_way = outcome.send;
            if on_the_way.is_empty() {
                now_ms = transfer.deadline_ms();
                let outcome = transfer.on_time(now_ms);
                if outcome.end.is_some() {
                    return Ok(());
                }
                on_the_way = outcome.send;
            }
        }
        prop_assert!(false, "never ended");
    }

    #[test]
    fn block_numbers_wrap(size in 0u64..3_000_000) {
        let (mut transfer, _) = Transfer::begin(&request(Some(8), Some(64)), size, 0);
        let mut outcome = transfer.on_packet(&Packet::Ack(0), 0);
        while outcome.end.is_none() {
            let last = *blocks(&outcome.send).last().unwrap();
            outcome = transfer.on_packet(&Packet::Ack((last & 0xffff) as u16), 0);
        }
        prop_assert_eq!(outcome.end, Some(End::Complete));
    }
}
