//! Tests of `nbd::server`.

use super::*;
use crate::nbd::client::{self, Wishes};
use crate::nbd::wire::{self, Command, ErrorNumber, RequestHeader, command_flag, option, option_reply};
use proptest::prelude::*;

const SIZE: u64 = 1 << 30;

fn shape() -> ExportShape {
    ExportShape { size_bytes: SIZE, read_only: false, description: "a disk".into() }
}

/// Lets our client and our server talk until the export is open, in pieces of `step` bytes.
fn talk(wishes: Wishes, step: usize) -> (client::OpenExport, Session) {
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let mut server = Handshake::new(TlsOffer::Unavailable, &mut to_client);
    let mut client = client::Handshake::new("disk", wishes);
    let mut session = None;
    let (mut client_at, mut server_at, mut client_end, mut server_end) = (0, 0, 0, 0);
    loop {
        client_end = to_client.len().min(client_end + step);
        match client.receive(&to_client[client_at..client_end], &mut to_server).unwrap() {
            client::Step::NeedMore { consumed } => client_at += consumed,
            client::Step::Open { export, .. } => return (export, session.unwrap()),
        }
        server_end = to_server.len().min(server_end + step);
        let did = server.receive(&to_server[server_at..server_end], &mut to_client);
        server_at += did.consumed;
        if let Event::OpenExport { name, purpose } = did.event {
            assert_eq!((name.as_str(), purpose), ("disk", OpenPurpose::Go));
            session = server.opened(&shape(), &mut to_client);
        }
    }
}

fn put_option(bytes: &mut Vec<u8>, number: u32, data: &[u8]) {
    bytes.extend_from_slice(&wire::OPTION_MAGIC.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
}

/// What the server does with the client's flags and one option.
fn one_option(tls: TlsOffer, number: u32, data: &[u8]) -> (Event, Option<u32>) {
    let mut input = 3u32.to_be_bytes().to_vec();
    put_option(&mut input, number, data);
    let mut output = Vec::new();
    let mut server = Handshake::new(tls, &mut output);
    output.clear();
    let step = server.receive(&input, &mut output);
    (step.event, (output.len() >= 20).then(|| wire::be_u32(&output, 12)))
}

fn session(form: ReplyForm) -> Session {
    Session { form, allocation: true, size_bytes: SIZE, read_only: false }
}

fn incoming(session: Session, header: RequestHeader) -> Option<Incoming<'static>> {
    match RequestParser::new(session).next(&header.encode()).unwrap().incoming {
        Some(Incoming::Order(order)) => Some(Incoming::Order(order)),
        Some(Incoming::Refused { cookie, offset, error }) => {
            Some(Incoming::Refused { cookie, offset, error })
        }
        Some(Incoming::Disconnect) => Some(Incoming::Disconnect),
        Some(Incoming::Payload { .. }) | None => None,
    }
}

fn refusal_of(session: Session, header: RequestHeader) -> Option<ErrorNumber> {
    match incoming(session, header) {
        Some(Incoming::Refused { error, .. }) => Some(error),
        _ => None,
    }
}

#[test]
fn our_client_and_our_server_agree_whatever_the_pieces() {
    for step in [1, 5, 4096] {
        let all = Wishes { structured_replies: true, block_status: true };
        let (export, session) = talk(all, step);
        assert_eq!((export.size_bytes, export.allocation_context), (SIZE, Some(1)));
        assert_eq!(export.description.as_deref(), Some("a disk"));
        assert_eq!(session, super::tests::session(ReplyForm::Structured));
        let (export, session) = talk(Wishes::default(), step);
        assert!(!export.structured_replies && !session.allocation);
    }
}

#[test]
fn exports_are_not_listed() {
    let (event, kind) = one_option(TlsOffer::Unavailable, option::LIST, &[]);
    assert_eq!((event, kind), (Event::NeedMore, Some(option_reply::ERR_POLICY)));
}

#[test]
fn nothing_is_opened_without_tls_where_tls_is_required() {
    let go = [0, 0, 0, 1, b'x', 0, 0];
    let (event, kind) = one_option(TlsOffer::Required, option::GO, &go);
    assert_eq!((event, kind), (Event::NeedMore, Some(option_reply::ERR_TLS_REQD)));
    assert_eq!(one_option(TlsOffer::Required, option::EXPORT_NAME, b"x").0, Event::Close);
    assert_eq!(one_option(TlsOffer::Required, option::STARTTLS, &[]).0, Event::StartTls);
    let (event, kind) = one_option(TlsOffer::Unavailable, option::STARTTLS, &[]);
    assert_eq!((event, kind), (Event::NeedMore, Some(option_reply::ERR_POLICY)));
}

#[test]
fn an_oversize_option_is_skipped_and_refused_and_a_huge_one_ends_it() {
    let (_, kind) = one_option(TlsOffer::Unavailable, option::GO, &vec![0; 20_000]);
    assert_eq!(kind, Some(option_reply::ERR_TOO_BIG));
    let (event, _) = one_option(TlsOffer::Unavailable, option::GO, &vec![0; 2 << 20]);
    assert_eq!(event, Event::Close);
}

#[test]
fn a_name_of_more_than_4_kib_is_malformed() {
    let mut data = 5000u32.to_be_bytes().to_vec();
    data.extend_from_slice(&[b'a'; 5000]);
    data.extend_from_slice(&[0, 0]);
    let (_, kind) = one_option(TlsOffer::Unavailable, option::GO, &data);
    assert_eq!(kind, Some(option_reply::ERR_INVALID));
    assert_eq!(one_option(TlsOffer::Unavailable, option::EXPORT_NAME, &[b'a'; 5000]).0, Event::Close);
}

#[test]
fn a_client_cannot_ask_options_for_ever() {
    let mut input = 3u32.to_be_bytes().to_vec();
    (0..100).for_each(|_| put_option(&mut input, option::LIST, &[]));
    let mut output = Vec::new();
    let step = Handshake::new(TlsOffer::Unavailable, &mut output).receive(&input, &mut output);
    assert_eq!(step.event, Event::Close);
    assert!(output.len() < 64 * 64);
}

#[test]
fn an_unknown_name_gets_an_error_and_another_chance() {
    let mut input = 3u32.to_be_bytes().to_vec();
    put_option(&mut input, option::GO, &[0, 0, 0, 1, b'x', 0, 0]);
    let mut output = Vec::new();
    let mut server = Handshake::new(TlsOffer::Unavailable, &mut output);
    output.clear();
    let step = server.receive(&input, &mut output);
    assert_eq!(step.event, Event::OpenExport { name: "x".into(), purpose: OpenPurpose::Go });
    assert!(!server.refused(OpenRefusal::Unknown, &mut output));
    assert_eq!(wire::be_u32(&output, 12), option_reply::ERR_UNKNOWN);
    assert_eq!(server.receive(&[], &mut output).event, Event::NeedMore);
}

#[test]
fn every_impossible_request_has_its_error() {
    let at = |command, offset, len| RequestHeader::new(command, 1, offset, len);
    let writable = session(ReplyForm::Structured);
    let fixed = Session { read_only: true, ..writable };
    let blind = Session { allocation: false, ..writable };
    let flagged = |header: RequestHeader, flags| RequestHeader { flags, ..header };
    let unknown = RequestHeader { command: 99, ..at(Command::Read, 0, 512) };
    for (session, header, error) in [
        (writable, at(Command::Read, SIZE, 1), ErrorNumber::Invalid),
        (writable, at(Command::Read, SIZE - 1, 2), ErrorNumber::Invalid),
        (writable, at(Command::Read, u64::MAX, 2), ErrorNumber::Invalid),
        (writable, at(Command::Read, 0, 0), ErrorNumber::Invalid),
        (writable, at(Command::Read, 0, 33 << 20), ErrorNumber::Invalid),
        (writable, flagged(at(Command::Read, 0, 512), command_flag::REQ_ONE), ErrorNumber::Invalid),
        (writable, at(Command::WriteZeroes, SIZE, 512), ErrorNumber::NoSpace),
        (fixed, at(Command::Trim, 0, 512), ErrorNumber::Perm),
        (fixed, at(Command::WriteZeroes, 0, 512), ErrorNumber::Perm),
        (blind, at(Command::BlockStatus, 0, 512), ErrorNumber::Invalid),
        (writable, unknown, ErrorNumber::Invalid),
    ] {
        assert_eq!(refusal_of(session, header), Some(error), "{header:?}");
    }
}

#[test]
fn a_refused_writes_payload_is_skipped_before_the_refusal() {
    let fixed = Session { read_only: true, ..session(ReplyForm::Simple) };
    let mut parser = RequestParser::new(fixed);
    let mut bytes = RequestHeader::new(Command::Write, 5, 0, 600).encode().to_vec();
    bytes.extend_from_slice(&[1; 600]);
    bytes.extend_from_slice(&RequestHeader::new(Command::Read, 6, 0, 512).encode());
    let head = parser.next(&bytes).unwrap();
    assert_eq!((head.consumed, head.incoming), (28, None));
    let skipped = parser.next(&bytes[28..]).unwrap();
    let refused = Incoming::Refused { cookie: 5, offset: 0, error: ErrorNumber::Perm };
    assert_eq!((skipped.consumed, skipped.incoming), (600, Some(refused)));
    let read = parser.next(&bytes[628..]).unwrap();
    assert!(matches!(read.incoming, Some(Incoming::Order(Order { cookie: 6, .. }))));
}

#[test]
fn a_write_beyond_32_mib_ends_the_connection() {
    let bytes = RequestHeader::new(Command::Write, 5, 0, 33 << 20).encode();
    let result = RequestParser::new(session(ReplyForm::Simple)).next(&bytes);
    assert_eq!(result, Err(BadRequest::TooLarge(33 << 20)));
}

#[test]
fn extended_requests_may_be_longer_than_32_bits() {
    let wide = Session { size_bytes: 1 << 40, ..session(ReplyForm::Extended) };
    let header = RequestHeader { len: 1 << 36, ..RequestHeader::new(Command::Trim, 9, 0, 0) };
    let bytes = header.encode_extended();
    let parsed = RequestParser::new(wide).next(&bytes).unwrap();
    assert!(matches!(parsed.incoming, Some(Incoming::Order(Order { len: 0x10_0000_0000, .. }))));
}

proptest! {
    #[test]
    fn an_admitted_order_lies_inside_the_disk(
        flags in 0u16..64, command in 0u16..10, offset in 0..2 * SIZE, len in any::<u32>(),
    ) {
        let header = RequestHeader { flags, command, cookie: 1, offset, len: u64::from(len) };
        if let Ok(Parsed { incoming: Some(Incoming::Order(order)), .. }) =
            RequestParser::new(session(ReplyForm::Simple)).next(&header.encode())
        {
            prop_assert!(order.offset + order.len <= SIZE);
        }
    }
}
