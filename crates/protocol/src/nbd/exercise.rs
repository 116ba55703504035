//! What the fuzz targets and the properties do with arbitrary bytes: feed them in pieces and
//! assert what must hold whatever they are. Panics are findings.

use super::client::{self, PendingRead, Reply, ReplyForm, ReplyParser, Wishes};
use super::server::{
    Event, ExportShape, Handshake, Incoming, OpenRefusal, OrderKind, RequestParser, Session, TlsOffer,
};
use super::wire::MAX_PAYLOAD_BYTES;

const SIZE: u64 = 1 << 40;

/// Plays a whole connection of a client that sends `bytes`: handshake, then requests.
///
/// The first byte chooses the size of the pieces and whether TLS is a must.
pub fn exercise_server(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let step = usize::from(choice & 0x7f) + 1;
    let tls = if choice & 0x80 == 0 { TlsOffer::Offered } else { TlsOffer::Required };
    let mut output = Vec::new();
    let mut handshake = Handshake::new(tls, &mut output);
    let (mut at, mut end) = (0, 0);
    loop {
        let taken = handshake.receive(&bytes[at..end], &mut output);
        assert!(taken.consumed <= end - at);
        at += taken.consumed;
        assert!(output.len() < 1 << 20, "the answers to at most 64 options are bounded");
        match taken.event {
            Event::NeedMore if end == bytes.len() => return,
            Event::NeedMore => end = bytes.len().min(end + step),
            Event::Close => return,
            Event::StartTls => handshake = handshake.over_tls(),
            Event::OpenExport { name, .. } => {
                if name.starts_with('?') {
                    if handshake.refused(OpenRefusal::Unknown, &mut output) {
                        return;
                    }
                    continue;
                }
                let shape =
                    ExportShape { size_bytes: SIZE, read_only: name.len() % 2 == 1, description: name };
                if let Some(session) = handshake.opened(&shape, &mut output) {
                    return exercise_session(session, &bytes[at..], step);
                }
            }
        }
    }
}

/// Feeds `bytes` to an open session in pieces of `step`.
pub fn exercise_session(session: Session, bytes: &[u8], step: usize) {
    let mut parser = RequestParser::new(session);
    let (mut at, mut end, mut owed) = (0, 0, 0u64);
    loop {
        let Ok(parsed) = parser.next(&bytes[at..end]) else { return };
        assert!(parsed.consumed <= end - at);
        at += parsed.consumed;
        match parsed.incoming {
            Some(Incoming::Order(order)) => {
                assert_eq!(owed, 0, "an order comes after the payload before it");
                assert!(order.offset.checked_add(order.len).is_some_and(|end| end <= session.size_bytes));
                let moves = matches!(order.kind, OrderKind::Read { .. } | OrderKind::Write { .. });
                assert!(!moves || order.len <= u64::from(MAX_PAYLOAD_BYTES));
                let writes = !matches!(
                    order.kind,
                    OrderKind::Read { .. }
                        | OrderKind::Flush
                        | OrderKind::Cache
                        | OrderKind::BlockStatus { .. }
                );
                assert!(!(writes && session.read_only), "a read-only export is never written");
                owed = if matches!(order.kind, OrderKind::Write { .. }) { order.len } else { 0 };
            }
            Some(Incoming::Payload { bytes, last }) => {
                owed -= bytes.len() as u64;
                assert_eq!(last, owed == 0);
            }
            Some(Incoming::Disconnect) => return,
            Some(Incoming::Refused { .. }) => {}
            None if parsed.consumed > 0 => {}
            None if end == bytes.len() => return,
            None => end = bytes.len().min(end + step),
        }
    }
}

/// Plays a server that sends `bytes` to our client: handshake, then replies.
///
/// The first byte chooses the size of the pieces.
pub fn exercise_client(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let step = usize::from(*choice) + 1;
    let wishes = Wishes { structured_replies: choice & 1 == 0, block_status: choice & 2 == 0 };
    let (mut handshake, mut output) = (client::Handshake::new("disk", wishes), Vec::new());
    let (mut at, mut end) = (0, 0);
    let form = loop {
        match handshake.receive(&bytes[at..end], &mut output) {
            Err(_) => return,
            Ok(client::Step::Open { consumed, export }) => {
                at += consumed;
                break if export.structured_replies { ReplyForm::Structured } else { ReplyForm::Simple };
            }
            Ok(client::Step::NeedMore { consumed }) => {
                at += consumed;
                if end == bytes.len() {
                    return;
                }
                end = bytes.len().min(end + step);
            }
        }
        assert!(output.len() < 64 * 1024);
    };
    exercise_replies(form, &bytes[at..], step);
}

/// Feeds `bytes` as replies; cookie n waits for n KiB at n MiB.
pub fn exercise_replies(form: ReplyForm, bytes: &[u8], step: usize) {
    let pending = |cookie: u64| {
        (cookie < 64).then_some(PendingRead { offset: cookie << 20, len: (cookie << 10) as u32 })
    };
    let mut parser = ReplyParser::new(form);
    let (mut at, mut end) = (0, 0);
    loop {
        let Ok(parsed) = parser.next(&bytes[at..end], pending) else { return };
        assert!(parsed.consumed <= end - at);
        at += parsed.consumed;
        let inside = |cookie: u64, offset: u64, len: u64| {
            let wanted = pending(cookie).expect("only cookies that wait are answered");
            assert!(offset >= wanted.offset && offset + len <= wanted.offset + u64::from(wanted.len));
        };
        match parsed.reply {
            Some(Reply::Data { cookie, offset, bytes }) => inside(cookie, offset, bytes.len() as u64),
            Some(Reply::Zeroes { cookie, offset, len }) => inside(cookie, offset, u64::from(len)),
            Some(_) => {}
            None if parsed.consumed > 0 => {}
            None if end == bytes.len() => return,
            None => end = bytes.len().min(end + step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbd::wire::{self, ChunkHeader, RequestHeader};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Bytes that get past the first checks: options with right heads, requests with right magics.
    fn client_bytes() -> impl Strategy<Value = Vec<u8>> {
        let option = (0u32..13, vec(any::<u8>(), 0..40)).prop_map(|(number, data)| {
            let mut bytes = wire::OPTION_MAGIC.to_be_bytes().to_vec();
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&data);
            bytes
        });
        let go = (0usize..4).prop_map(|len| {
            let mut bytes = wire::OPTION_MAGIC.to_be_bytes().to_vec();
            bytes.extend_from_slice(&wire::option::GO.to_be_bytes());
            bytes.extend_from_slice(&(len as u32 + 6).to_be_bytes());
            bytes.extend_from_slice(&(len as u32).to_be_bytes());
            bytes.extend(std::iter::repeat_n(b'a', len));
            bytes.extend_from_slice(&[0, 0]);
            bytes
        });
        let request = (0u16..64, 0u16..10, 0..2 * SIZE, 0u64..3000, vec(any::<u8>(), 0..3000));
        let request = request.prop_map(|(flags, command, offset, len, payload)| {
            let mut bytes = RequestHeader { flags, command, cookie: 1, offset, len }.encode().to_vec();
            bytes.extend_from_slice(&payload[..payload.len().min(len as usize)]);
            bytes
        });
        (any::<u8>(), vec(option, 0..4), go, vec(request, 0..6), vec(any::<u8>(), 0..60)).prop_map(
            |(choice, options, go, requests, tail)| {
                let mut bytes = vec![choice, 0, 0, 0, 3];
                options.iter().for_each(|option| bytes.extend_from_slice(option));
                bytes.extend_from_slice(&go);
                requests.iter().for_each(|request| bytes.extend_from_slice(request));
                bytes.extend_from_slice(&tail);
                bytes
            },
        )
    }

    proptest! {
        #[test]
        fn no_client_breaks_the_server(bytes in client_bytes()) {
            exercise_server(&bytes);
        }

        #[test]
        fn no_bytes_break_either_end(bytes in vec(any::<u8>(), 0..600)) {
            exercise_server(&bytes);
            exercise_client(&bytes);
        }

        #[test]
        fn no_chunk_breaks_the_client(
            chunks in vec((0u16..9, 0u64..70, 0u32..300, any::<bool>(), vec(any::<u8>(), 0..300)), 0..6),
            step in 1usize..100,
        ) {
            let mut bytes = Vec::new();
            for (kind, cookie, len, done, body) in chunks {
                let header = ChunkHeader { flags: u16::from(done), kind, cookie, len };
                bytes.extend_from_slice(&header.encode());
                bytes.extend_from_slice(&body);
            }
            exercise_replies(ReplyForm::Structured, &bytes, step);
            exercise_replies(ReplyForm::Simple, &bytes, step);
        }
    }
}
