//! Tests of `nbd::client`.

use super::*;
use crate::nbd::wire::{self, ChunkHeader, ErrorNumber, chunk, option, option_reply};
use proptest::prelude::*;

const COOKIE: u64 = 7;

fn greeting(flags: u16) -> Vec<u8> {
    let mut bytes = wire::NBD_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&wire::OPTION_MAGIC.to_be_bytes());
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes
}

fn option_answer(number: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = wire::OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn size_info() -> Vec<u8> {
    let mut data = wire::info::EXPORT.to_be_bytes().to_vec();
    data.extend_from_slice(&4096u64.to_be_bytes());
    data.extend_from_slice(&1u16.to_be_bytes());
    option_answer(option::GO, option_reply::INFO, &data)
}

fn whole_handshake() -> Vec<u8> {
    let mut bytes = greeting(3);
    bytes.extend(option_answer(option::STRUCTURED_REPLY, option_reply::ACK, &[]));
    let mut context = 9u32.to_be_bytes().to_vec();
    context.extend_from_slice(b"base:allocation");
    bytes.extend(option_answer(option::SET_META_CONTEXT, option_reply::META_CONTEXT, &context));
    bytes.extend(option_answer(option::SET_META_CONTEXT, option_reply::ACK, &[]));
    bytes.extend(size_info());
    bytes.extend(option_answer(option::GO, option_reply::ACK, &[]));
    bytes
}

const ALL: Wishes = Wishes { structured_replies: true, block_status: true };

fn pending(cookie: u64) -> Option<PendingRead> {
    (cookie == COOKIE).then_some(PendingRead { offset: 4096, len: 1024 })
}

/// Feeds `bytes` in pieces of `step` and collects the disk's bytes and whether it was done.
fn read_all(form: ReplyForm, bytes: &[u8], step: usize) -> Result<(Vec<u8>, bool), BadReply> {
    let mut parser = ReplyParser::new(form);
    let (mut disk, mut done, mut at, mut end) = (vec![0xee; 1024], false, 0, 0);
    loop {
        let parsed = parser.next(&bytes[at..end], pending)?;
        at += parsed.consumed;
        match parsed.reply {
            Some(Reply::Data { offset, bytes, .. }) => {
                let from = (offset - 4096) as usize;
                disk[from..from + bytes.len()].copy_from_slice(bytes);
            }
            Some(Reply::Zeroes { offset, len, .. }) => {
                let from = (offset - 4096) as usize;
                disk[from..from + len as usize].fill(0);
            }
            Some(Reply::Done { .. }) => done = true,
            Some(_) => {}
            None if end == bytes.len() => return Ok((disk, done)),
            None => end = bytes.len().min(end + step),
        }
    }
}

#[test]
fn a_handshake_byte_by_byte_opens_the_export() {
    let bytes = whole_handshake();
    let (mut client, mut output, mut at) = (Handshake::new("disk", ALL), Vec::new(), 0);
    for end in 0..=bytes.len() {
        match client.receive(&bytes[at..end], &mut output).unwrap() {
            Step::NeedMore { consumed } => at += consumed,
            Step::Open { consumed, export } => {
                assert_eq!((at + consumed, end), (bytes.len(), bytes.len()));
                assert_eq!((export.size_bytes, export.allocation_context), (4096, Some(9)));
                assert!(export.structured_replies);
                return;
            }
        }
    }
    panic!("the handshake did not end");
}

#[test]
fn an_unknown_export_is_told_apart_from_other_refusals() {
    let mut bytes = greeting(3);
    bytes.extend(option_answer(option::GO, option_reply::ERR_UNKNOWN, b"no such token"));
    let result = Handshake::new("x", Wishes::default()).receive(&bytes, &mut Vec::new());
    assert_eq!(result, Err(HandshakeError::Unknown("no such token".into())));
}

#[test]
fn a_server_of_another_kind_is_known_from_its_first_bytes() {
    let result = Handshake::new("x", Wishes::default()).receive(b"HTTP", &mut Vec::new());
    assert_eq!(result, Err(HandshakeError::NotNbd));
    let oldstyle = greeting(0);
    let result = Handshake::new("x", Wishes::default()).receive(&oldstyle, &mut Vec::new());
    assert_eq!(result, Err(HandshakeError::NotNbd));
}

#[test]
fn an_endless_option_reply_is_refused_by_its_length() {
    let mut bytes = greeting(3);
    let mut reply = option_answer(option::GO, option_reply::INFO, &[]);
    reply[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    bytes.extend(reply);
    let result = Handshake::new("x", Wishes::default()).receive(&bytes, &mut Vec::new());
    assert!(matches!(result, Err(HandshakeError::Protocol(_))));
}

#[test]
fn a_simple_reply_brings_its_data_in_any_pieces() {
    let mut bytes = wire::simple_reply(COOKIE, 0).to_vec();
    bytes.extend((0..1024).map(|i| i as u8));
    for step in [1, 7, 100, 5000] {
        let (disk, done) = read_all(ReplyForm::Simple, &bytes, step).unwrap();
        assert!(done);
        assert!(disk.iter().enumerate().all(|(i, b)| *b == i as u8));
    }
}

#[test]
fn a_structured_reply_brings_data_and_holes() {
    let header = |flags, kind, len| ChunkHeader { flags, kind, cookie: COOKIE, len }.encode();
    let mut bytes = header(0, chunk::OFFSET_HOLE, 12).to_vec();
    bytes.extend_from_slice(&4096u64.to_be_bytes());
    bytes.extend_from_slice(&512u32.to_be_bytes());
    bytes.extend_from_slice(&header(chunk::FLAG_DONE, chunk::OFFSET_DATA, 8 + 512));
    bytes.extend_from_slice(&4608u64.to_be_bytes());
    bytes.extend_from_slice(&[5; 512]);
    for step in [1, 3, 64, 5000] {
        let (disk, done) = read_all(ReplyForm::Structured, &bytes, step).unwrap();
        assert!(done);
        assert_eq!((&disk[..512], &disk[512..]), (&[0; 512][..], &[5; 512][..]));
    }
}

#[test]
fn an_error_is_followed_by_the_end_of_the_request() {
    let bytes = wire::simple_reply(COOKIE, ErrorNumber::NoSpace.number());
    let mut parser = ReplyParser::new(ReplyForm::Simple);
    let first = parser.next(&bytes, pending).unwrap();
    assert_eq!(first.reply, Some(Reply::Failed { cookie: COOKIE, error: ErrorNumber::NoSpace }));
    let second = parser.next(&[], pending).unwrap();
    assert_eq!(second.reply, Some(Reply::Done { cookie: COOKIE }));
}

#[test]
fn data_outside_of_the_request_are_refused() {
    let header = ChunkHeader { flags: 1, kind: chunk::OFFSET_DATA, cookie: COOKIE, len: 8 + 512 };
    for offset in [0u64, 4095, 4096 + 513, u64::MAX] {
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&[0; 512]);
        assert_eq!(read_all(ReplyForm::Structured, &bytes, 9999), Err(BadReply::Range));
    }
    assert_eq!(read_all(ReplyForm::Simple, &wire::simple_reply(8, 0), 99), Err(BadReply::Cookie));
}

proptest! {
    #[test]
    fn no_bytes_make_the_handshake_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut all = greeting(3);
        all.extend_from_slice(&bytes);
        let _ = Handshake::new("disk", ALL).receive(&all, &mut Vec::new());
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        kind in 0u16..9, len in 0u32..2000, done in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut all = ChunkHeader { flags: u16::from(done), kind, cookie: COOKIE, len }.encode().to_vec();
        all.extend_from_slice(&bytes);
        let _ = read_all(ReplyForm::Structured, &all, 50);
        let _ = read_all(ReplyForm::Structured, &bytes, 50);
    }
}
