//! From the greeting to a session (NBD proto.md, "Fixed newstyle negotiation").
//!
//! Which exports exist is not known here: [`Event::OpenExport`] asks, [`Handshake::opened`] and
//! [`Handshake::refused`] tell. `LIST` is refused by policy, because an export's name is a secret
//! token (DESIGN section 7).

use super::options::{InfoRequest, MetaRequest, bare_name, info_request, meta_request};
use super::{ReplyForm, Session};
use crate::nbd::wire::{
    BASE_ALLOCATION, MAX_PAYLOAD_BYTES, NBD_MAGIC, OPTION_HEADER_BYTES, OPTION_MAGIC, OPTION_REPLY_MAGIC,
    be_u32, be_u64, handshake_flag, info, option, option_reply, transmission_flag,
};

/// The longest option that is read: three strings of the protocol's limit and their frame.
const MAX_OPTION_BYTES: u32 = 16 * 1024;
/// The longest option that is skipped and answered; a longer one ends the connection.
const MAX_SKIPPED_BYTES: u32 = 1024 * 1024;
/// Options before an export is open; every known client needs fewer than ten.
const MAX_OPTIONS: u32 = 64;
/// The number that `base:allocation` gets.
pub(super) const ALLOCATION_CONTEXT: u32 = 1;

/// What the handshake says about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsOffer {
    /// `STARTTLS` is refused.
    Unavailable,
    /// A client may ask for it.
    Offered,
    /// Nothing is told or opened without it.
    Required,
    /// It is in place already.
    Active,
}

/// What an export looks like to its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportShape {
    /// The disk's size in bytes.
    pub size_bytes: u64,
    /// Whether writing commands are refused.
    pub read_only: bool,
    /// A text for people; at most 4,096 bytes of it are sent.
    pub description: String,
}

/// Why an export is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenPurpose {
    /// The client only asks about it.
    Info,
    /// A session begins.
    Go,
}

/// Why an export is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenRefusal {
    /// There is none of that name.
    Unknown,
    /// Not to this client, or not that often.
    Policy,
    /// The server stops.
    Shutdown,
}

/// What the holder of the socket has to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Read more.
    NeedMore,
    /// Look up an export, then call [`Handshake::opened`] or [`Handshake::refused`].
    OpenExport {
        /// The name that the client gave.
        name: String,
        /// What for.
        purpose: OpenPurpose,
    },
    /// Send the output, then speak TLS and begin with [`Handshake::over_tls`].
    StartTls,
    /// Send the output, then close.
    Close,
}

/// What one call used up and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What to do now.
    pub event: Event,
}

#[derive(Clone, Debug)]
enum Stage {
    ClientFlags,
    Options,
    Skip { left: u32 },
    Opening { option: u32, request: InfoRequest },
    Closed,
}

/// The state of one handshake.
#[derive(Clone, Debug)]
pub struct Handshake {
    stage: Stage,
    tls: TlsOffer,
    form: ReplyForm,
    no_zeroes: bool,
    /// The export for which `base:allocation` was selected.
    allocation_for: Option<String>,
    options_seen: u32,
}

impl Handshake {
    /// Begins: appends the greeting to `output`.
    pub fn new(tls: TlsOffer, output: &mut Vec<u8>) -> Self {
        output.extend_from_slice(&NBD_MAGIC.to_be_bytes());
        output.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
        output.extend_from_slice(&flags.to_be_bytes());
        Self::at(Stage::ClientFlags, tls)
    }

    /// Goes on after TLS was set up; everything negotiated before is forgotten, as the protocol
    /// asks.
    pub fn over_tls(self) -> Self {
        Self { no_zeroes: self.no_zeroes, ..Self::at(Stage::Options, TlsOffer::Active) }
    }

    fn at(stage: Stage, tls: TlsOffer) -> Self {
        let form = ReplyForm::Simple;
        Self { stage, tls, form, no_zeroes: false, allocation_for: None, options_seen: 0 }
    }

    /// Takes what the client sent so far (unconsumed bytes first) and appends what to send.
    pub fn receive(&mut self, input: &[u8], output: &mut Vec<u8>) -> Step {
        let mut at = 0;
        loop {
            let (used, event) = match self.stage {
                Stage::ClientFlags => self.client_flags(&input[at..]),
                Stage::Options => self.option(&input[at..], output),
                Stage::Skip { left } => self.skip(&input[at..], left),
                Stage::Opening { .. } => (0, Event::NeedMore),
                Stage::Closed => (0, Event::Close),
            };
            at += used;
            if event != Event::NeedMore || used == 0 {
                return Step { consumed: at, event };
            }
        }
    }

    /// Answers the question of [`Event::OpenExport`]: a session, unless it was only asked about.
    pub fn opened(&mut self, shape: &ExportShape, output: &mut Vec<u8>) -> Option<Session> {
        let Stage::Opening { option: number, request } = std::mem::replace(&mut self.stage, Stage::Options)
        else {
            panic!("an export was opened that nobody asked for");
        };
        let session = self.session(shape, &request.name);
        if number == option::EXPORT_NAME {
            self.put_export_name_reply(&session, output);
            return Some(session);
        }
        put_export_info(number, &session, output);
        put_block_sizes(number, output);
        if request.wants_name {
            put_info_text(number, info::NAME, &request.name, output);
        }
        if request.wants_description && !shape.description.is_empty() {
            put_info_text(number, info::DESCRIPTION, &shape.description, output);
        }
        put_reply(output, number, option_reply::ACK, &[]);
        (number == option::GO).then_some(session)
    }

    /// Answers the question of [`Event::OpenExport`] with no. True where the connection must be
    /// closed, because the client left no way to tell it (`EXPORT_NAME`).
    pub fn refused(&mut self, why: OpenRefusal, output: &mut Vec<u8>) -> bool {
        let Stage::Opening { option: number, .. } = std::mem::replace(&mut self.stage, Stage::Options) else {
            panic!("an export was refused that nobody asked for");
        };
        if number == option::EXPORT_NAME {
            self.stage = Stage::Closed;
            return true;
        }
        let (kind, text) = match why {
            OpenRefusal::Unknown => (option_reply::ERR_UNKNOWN, "no such export"),
            OpenRefusal::Policy => (option_reply::ERR_POLICY, "not to this client now"),
            OpenRefusal::Shutdown => (option_reply::ERR_SHUTDOWN, "the server stops"),
        };
        put_reply(output, number, kind, text.as_bytes());
        false
    }

    fn session(&self, shape: &ExportShape, name: &str) -> Session {
        Session {
            form: self.form,
            allocation: self.allocation_for.as_deref() == Some(name),
            size_bytes: shape.size_bytes,
            read_only: shape.read_only,
        }
    }

    fn put_export_name_reply(&self, session: &Session, output: &mut Vec<u8>) {
        output.extend_from_slice(&session.size_bytes.to_be_bytes());
        output.extend_from_slice(&transmission_flags(session).to_be_bytes());
        if !self.no_zeroes {
            output.extend_from_slice(&[0; 124]);
        }
    }

    fn client_flags(&mut self, input: &[u8]) -> (usize, Event) {
        let known = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
        if input.len() < 4 {
            return (0, Event::NeedMore);
        }
        let flags = be_u32(input, 0);
        if flags & !u32::from(known) != 0 {
            return (4, self.close());
        }
        self.no_zeroes = flags & u32::from(handshake_flag::NO_ZEROES) != 0;
        self.stage = Stage::Options;
        (4, Event::NeedMore)
    }

    fn close(&mut self) -> Event {
        self.stage = Stage::Closed;
        Event::Close
    }

    fn skip(&mut self, input: &[u8], left: u32) -> (usize, Event) {
        let take = input.len().min(left as usize);
        let left = left - take as u32;
        self.stage = if left == 0 { Stage::Options } else { Stage::Skip { left } };
        (take, Event::NeedMore)
    }

    fn option(&mut self, input: &[u8], output: &mut Vec<u8>) -> (usize, Event) {
        if input.len() < OPTION_HEADER_BYTES {
            return (0, Event::NeedMore);
        }
        let (number, len) = (be_u32(input, 8), be_u32(input, 12));
        if be_u64(input, 0) != OPTION_MAGIC || len > MAX_SKIPPED_BYTES || self.options_seen >= MAX_OPTIONS {
            return (0, self.close());
        }
        if len > MAX_OPTION_BYTES {
            return (OPTION_HEADER_BYTES, self.refuse_too_big(number, len, output));
        }
        let end = OPTION_HEADER_BYTES + len as usize;
        let Some(data) = input.get(OPTION_HEADER_BYTES..end) else { return (0, Event::NeedMore) };
        self.options_seen += 1;
        (end, self.take_option(number, data, output))
    }

    fn refuse_too_big(&mut self, number: u32, len: u32, output: &mut Vec<u8>) -> Event {
        if number == option::EXPORT_NAME {
            return self.close();
        }
        self.options_seen += 1;
        put_reply(output, number, option_reply::ERR_TOO_BIG, b"option data of more than 16 KiB");
        self.stage = Stage::Skip { left: len };
        Event::NeedMore
    }

    fn take_option(&mut self, number: u32, data: &[u8], output: &mut Vec<u8>) -> Event {
        if self.tls == TlsOffer::Required && !matches!(number, option::ABORT | option::STARTTLS) {
            return self.refuse_without_tls(number, output);
        }
        match number {
            option::EXPORT_NAME => match bare_name(data) {
                Some(name) => self.ask_to_open(number, InfoRequest::bare(name)),
                None => self.close(),
            },
            option::ABORT => {
                put_reply(output, number, option_reply::ACK, &[]);
                self.close()
            }
            option::LIST => {
                let text = b"exports are not listed here";
                refuse(number, option_reply::ERR_POLICY, text, output)
            }
            option::STARTTLS => self.start_tls(data, output),
            option::INFO | option::GO => match info_request(data) {
                Some(request) => self.ask_to_open(number, request),
                None => refuse(number, option_reply::ERR_INVALID, b"malformed request", output),
            },
            option::STRUCTURED_REPLY => self.agree_on(ReplyForm::Structured, number, data, output),
            option::EXTENDED_HEADERS => self.agree_on(ReplyForm::Extended, number, data, output),
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.meta(number, data, output),
            _ => refuse(number, option_reply::ERR_UNSUP, b"unknown option", output),
        }
    }

    fn refuse_without_tls(&mut self, number: u32, output: &mut Vec<u8>) -> Event {
        if number == option::EXPORT_NAME {
            return self.close();
        }
        refuse(number, option_reply::ERR_TLS_REQD, b"TLS is required here", output)
    }

    fn ask_to_open(&mut self, number: u32, request: InfoRequest) -> Event {
        let purpose = if number == option::INFO { OpenPurpose::Info } else { OpenPurpose::Go };
        let name = request.name.clone();
        self.stage = Stage::Opening { option: number, request };
        Event::OpenExport { name, purpose }
    }

    fn start_tls(&mut self, data: &[u8], output: &mut Vec<u8>) -> Event {
        match self.tls {
            TlsOffer::Offered | TlsOffer::Required if data.is_empty() => {
                put_reply(output, option::STARTTLS, option_reply::ACK, &[]);
                Event::StartTls
            }
            TlsOffer::Unavailable => {
                refuse(option::STARTTLS, option_reply::ERR_POLICY, b"TLS is not configured", output)
            }
            _ => refuse(option::STARTTLS, option_reply::ERR_INVALID, b"not now", output),
        }
    }

    fn agree_on(&mut self, form: ReplyForm, number: u32, data: &[u8], output: &mut Vec<u8>) -> Event {
        if !data.is_empty() {
            return refuse(number, option_reply::ERR_INVALID, b"no data expected", output);
        }
        if self.form == ReplyForm::Extended && form == ReplyForm::Structured {
            return refuse(number, option_reply::ERR_EXT_HEADER_REQD, b"extended headers are on", output);
        }
        if self.form != form {
            self.allocation_for = None;
        }
        self.form = form;
        put_reply(output, number, option_reply::ACK, &[]);
        Event::NeedMore
    }

    fn meta(&mut self, number: u32, data: &[u8], output: &mut Vec<u8>) -> Event {
        let sets = number == option::SET_META_CONTEXT;
        if sets {
            self.allocation_for = None;
        }
        if self.form == ReplyForm::Simple {
            return refuse(number, option_reply::ERR_INVALID, b"needs structured replies", output);
        }
        let Some(MetaRequest { name, selects_allocation, lists_allocation }) = meta_request(data) else {
            return refuse(number, option_reply::ERR_INVALID, b"malformed request", output);
        };
        if (sets && selects_allocation) || (!sets && lists_allocation) {
            let context = if sets { ALLOCATION_CONTEXT } else { 0 };
            let mut answer = context.to_be_bytes().to_vec();
            answer.extend_from_slice(BASE_ALLOCATION.as_bytes());
            put_reply(output, number, option_reply::META_CONTEXT, &answer);
        }
        if sets && selects_allocation {
            self.allocation_for = Some(name);
        }
        put_reply(output, number, option_reply::ACK, &[]);
        Event::NeedMore
    }
}

/// The flags that tell what a session's export can do.
fn transmission_flags(session: &Session) -> u16 {
    use transmission_flag as flag;
    let common =
        flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA | flag::CAN_MULTI_CONN | flag::SEND_CACHE;
    let access = match session.read_only {
        true => flag::READ_ONLY,
        false => flag::SEND_TRIM | flag::SEND_WRITE_ZEROES,
    };
    let structured = if session.form == ReplyForm::Simple { 0 } else { flag::SEND_DF };
    common | access | structured
}

fn put_export_info(number: u32, session: &Session, output: &mut Vec<u8>) {
    let mut data = info::EXPORT.to_be_bytes().to_vec();
    data.extend_from_slice(&session.size_bytes.to_be_bytes());
    data.extend_from_slice(&transmission_flags(session).to_be_bytes());
    put_reply(output, number, option_reply::INFO, &data);
}

/// Any byte may be read or written; 4 KiB is what page cache and write caches work in.
fn put_block_sizes(number: u32, output: &mut Vec<u8>) {
    let mut data = info::BLOCK_SIZE.to_be_bytes().to_vec();
    for size in [1u32, 4096, MAX_PAYLOAD_BYTES] {
        data.extend_from_slice(&size.to_be_bytes());
    }
    put_reply(output, number, option_reply::INFO, &data);
}

fn put_info_text(number: u32, kind: u16, text: &str, output: &mut Vec<u8>) {
    let mut data = kind.to_be_bytes().to_vec();
    data.extend_from_slice(&text.as_bytes()[..text.floor_char_boundary(4096)]);
    put_reply(output, number, option_reply::INFO, &data);
}

fn refuse(number: u32, kind: u32, text: &[u8], output: &mut Vec<u8>) -> Event {
    put_reply(output, number, kind, text);
    Event::NeedMore
}

fn put_reply(output: &mut Vec<u8>, number: u32, kind: u32, data: &[u8]) {
    output.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    output.extend_from_slice(&number.to_be_bytes());
    output.extend_from_slice(&kind.to_be_bytes());
    output.extend_from_slice(&(data.len() as u32).to_be_bytes());
    output.extend_from_slice(data);
}
