//! Frames from bytes and to bytes.

use super::frame::{
    Accept, Class, Encoding, FarmId, Frame, Have, Hello, Possession, Refused, Request, Response,
};
use super::{MAX_FRAME_BYTES, MAX_NAMED, MAX_PIECE_BYTES, MAX_STATUS_BYTES, MAX_TEXT_BYTES};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::manifest::PAGE_BYTES;
use model::{CHUNK_SIZE, ChunkIndex, Name, PageHash, Root};

const MAGIC: [u8; 8] = *b"HWMESH01";

const HELLO: u8 = 0x01;
const ALIVE: u8 = 0x02;
const WANT_HAVE: u8 = 0x10;
const HAVE: u8 = 0x11;
const HAVE_END: u8 = 0x12;
const GET_MANIFEST: u8 = 0x20;
const GET_PAGES: u8 = 0x21;
const GET_CHUNKS: u8 = 0x22;
const GET_STATUS: u8 = 0x23;
const CANCEL: u8 = 0x2f;
const MANIFEST: u8 = 0x30;
const PAGE: u8 = 0x31;
const CHUNK: u8 = 0x32;
const NOT_HERE: u8 = 0x33;
const REFUSED: u8 = 0x34;
const DONE: u8 = 0x35;
const STATUS: u8 = 0x36;

const ACCEPT_ZSTD: u8 = 1;
const ACCEPT_DELTA: u8 = 2;

/// Why bytes are no frame; the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than any frame, or without a kind.
    #[error("a frame of {0} bytes")]
    Length(u32),
    /// No frame has this kind.
    #[error("a frame of the unknown kind {0:#04x}")]
    Kind(u8),
    /// The body is not as the kind says.
    #[error("a malformed frame of the kind {0:#04x}")]
    Malformed(u8),
}

/// Takes one frame from the front of what was received; `None` where more bytes are needed, and
/// nothing was taken. Bodies share the buffer's memory.
pub fn decode(received: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(length) = received.first_chunk() else { return Ok(None) };
    let length = u32::from_le_bytes(*length);
    if length == 0 || length > MAX_FRAME_BYTES {
        return Err(FrameError::Length(length));
    }
    if received.len() - 4 < length as usize {
        return Ok(None);
    }
    received.advance(4);
    let mut body = Body(received.split_to(length as usize).freeze());
    let kind = body.0.get_u8();
    if !is_known(kind) {
        return Err(FrameError::Kind(kind));
    }
    body.frame(kind).ok_or(FrameError::Malformed(kind)).map(Some)
}

fn is_known(kind: u8) -> bool {
    matches!(kind, HELLO | ALIVE | WANT_HAVE..=HAVE_END | GET_MANIFEST..=GET_STATUS | CANCEL | MANIFEST..=STATUS)
}

/// The rest of a frame's body; every taking is `None` where there is too little.
struct Body(Bytes);

impl Body {
    fn frame(mut self, kind: u8) -> Option<Frame> {
        let frame = match kind {
            // A later revision may say more: it is for the caller to refuse, with words.
            HELLO => return self.hello().map(Frame::Hello),
            ALIVE => Frame::Alive,
            WANT_HAVE => Frame::WantHave,
            HAVE => Frame::Have(self.have()?),
            HAVE_END => Frame::HaveEnd,
            GET_MANIFEST..=GET_STATUS => Frame::Request { id: self.u32()?, request: self.request(kind)? },
            CANCEL => Frame::Cancel { id: self.u32()? },
            _ => Frame::Response { id: self.u32()?, response: self.response(kind)? },
        };
        self.0.is_empty().then_some(frame)
    }

    fn hello(&mut self) -> Option<Hello> {
        if self.array()? != MAGIC {
            return None;
        }
        let revision = self.0.try_get_u16_le().ok()?;
        let class = class_of(self.u8()?)?;
        let farm = FarmId(self.array()?);
        let incarnation = self.u64()?;
        let len = usize::from(self.u8()?);
        let server = Name::new(std::str::from_utf8(&self.bytes(len)?).ok()?).ok()?;
        Some(Hello { revision, farm, server, incarnation, class })
    }

    fn have(&mut self) -> Option<Have> {
        let (root, sequence) = (self.root()?, self.u64()?);
        let possession = match self.u8()? {
            0 => Possession::Gone,
            1 => Possession::Complete,
            2 => {
                let first = self.u32()?;
                let bits = self.rest(MAX_PIECE_BYTES)?;
                (first % 8 == 0 && !bits.is_empty()).then_some(())?;
                Possession::Part { first: ChunkIndex(first), bits }
            }
            _ => return None,
        };
        Some(Have { root, sequence, possession })
    }

    fn request(&mut self, kind: u8) -> Option<Request> {
        Some(match kind {
            GET_MANIFEST => Request::GetManifest { root: self.root()? },
            GET_PAGES => {
                let names = self.rest(MAX_NAMED * 32)?;
                (!names.is_empty() && names.len() % 32 == 0).then_some(())?;
                let name = |name: &[u8]| PageHash::from_bytes(name.try_into().expect("32 bytes"));
                Request::GetPages { names: names.chunks_exact(32).map(name).collect() }
            }
            GET_STATUS => Request::GetStatus,
            _ => {
                let (root, flags) = (self.root()?, self.u8()?);
                (flags & !(ACCEPT_ZSTD | ACCEPT_DELTA) == 0).then_some(())?;
                let delta = if flags & ACCEPT_DELTA == 0 { None } else { Some(self.root()?) };
                let chunks = self.chunks()?;
                (!chunks.is_empty()).then_some(())?;
                Request::GetChunks { root, accept: Accept { zstd: flags & ACCEPT_ZSTD != 0, delta }, chunks }
            }
        })
    }

    fn response(&mut self, kind: u8) -> Option<Response> {
        Some(match kind {
            MANIFEST => Response::Manifest(self.rest(MAX_PIECE_BYTES)?),
            PAGE => Response::Page {
                name: PageHash::from_bytes(self.array()?),
                bytes: self.rest(PAGE_BYTES).filter(|page| page.len() == PAGE_BYTES)?,
            },
            CHUNK => {
                let index = ChunkIndex(self.u32()?);
                let encoding = match self.u8()? {
                    0 => Encoding::Raw,
                    1 => Encoding::Zstd,
                    2 => Encoding::ZstdDelta(self.root()?),
                    _ => return None,
                };
                Response::Chunk { index, encoding, bytes: self.rest(CHUNK_SIZE as usize)? }
            }
            STATUS => Response::Status(self.rest(MAX_STATUS_BYTES)?),
            NOT_HERE => Response::NotHere { chunks: self.chunks()? },
            REFUSED => {
                let text = self.rest(MAX_TEXT_BYTES)?;
                Response::Refused(Refused::new(std::str::from_utf8(&text).ok()?))
            }
            _ => Response::Done,
        })
    }

    /// Chunk numbers up to the end; their number follows from the bytes that are here.
    fn chunks(&mut self) -> Option<Vec<ChunkIndex>> {
        let numbers = self.rest(MAX_NAMED * 4)?;
        let number = |bytes: &[u8]| ChunkIndex(u32::from_le_bytes(bytes.try_into().expect("4 bytes")));
        (numbers.len() % 4 == 0).then(|| numbers.chunks_exact(4).map(number).collect())
    }

    fn bytes(&mut self, len: usize) -> Option<Bytes> {
        (self.0.len() >= len).then(|| self.0.split_to(len))
    }

    fn rest(&mut self, max: usize) -> Option<Bytes> {
        (self.0.len() <= max).then(|| std::mem::take(&mut self.0))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N).map(|bytes| bytes[..].try_into().expect("as many as asked for"))
    }

    fn root(&mut self) -> Option<Root> {
        self.array().map(Root::from_bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.0.try_get_u32_le().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64_le().ok()
    }
}

fn class_of(byte: u8) -> Option<Class> {
    Class::ALL.into_iter().find(|class| class_byte(*class) == byte)
}

fn class_byte(class: Class) -> u8 {
    match class {
        Class::Control => 0,
        Class::OnDemand => 1,
        Class::Bulk => 2,
    }
}

impl Frame {
    /// Appends the whole frame.
    pub fn encode(&self, out: &mut BytesMut) {
        let payload = self.encode_head(out);
        out.put_slice(&payload);
    }

    /// Appends the frame up to its payload, which the caller sends behind it: so large payloads are
    /// not copied to be sent. Empty where all of the frame was appended.
    ///
    /// # Panics
    /// Where a list or a payload is longer than the constants of [`super`] allow.
    pub fn encode_head(&self, out: &mut BytesMut) -> Bytes {
        let at = out.len();
        out.put_u32_le(0);
        let payload = self.put(out);
        let length = out.len() - at - 4 + payload.len();
        assert!(length <= MAX_FRAME_BYTES as usize, "a frame of {length} bytes");
        out[at..at + 4].copy_from_slice(&(length as u32).to_le_bytes());
        payload
    }

    fn put(&self, out: &mut BytesMut) -> Bytes {
        match self {
            Self::Hello(hello) => put_hello(hello, out),
            Self::Alive => out.put_u8(ALIVE),
            Self::WantHave => out.put_u8(WANT_HAVE),
            Self::Have(have) => return put_have(have, out),
            Self::HaveEnd => out.put_u8(HAVE_END),
            Self::Request { id, request } => put_request(*id, request, out),
            Self::Cancel { id } => put_kind_and_id(CANCEL, *id, out),
            Self::Response { id, response } => return put_response(*id, response, out),
        }
        Bytes::new()
    }
}

fn put_kind_and_id(kind: u8, id: u32, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u32_le(id);
}

fn put_hello(hello: &Hello, out: &mut BytesMut) {
    out.put_u8(HELLO);
    out.put_slice(&MAGIC);
    out.put_u16_le(hello.revision);
    out.put_u8(class_byte(hello.class));
    out.put_slice(&hello.farm.0);
    out.put_u64_le(hello.incarnation);
    out.put_u8(hello.server.as_str().len() as u8);
    out.put_slice(hello.server.as_str().as_bytes());
}

fn put_have(have: &Have, out: &mut BytesMut) -> Bytes {
    out.put_u8(HAVE);
    out.put_slice(have.root.as_bytes());
    out.put_u64_le(have.sequence);
    match &have.possession {
        Possession::Gone => out.put_u8(0),
        Possession::Complete => out.put_u8(1),
        Possession::Part { first, bits } => {
            assert!(
                first.0 % 8 == 0 && !bits.is_empty() && bits.len() <= MAX_PIECE_BYTES,
                "a piece of a bitmap"
            );
            out.put_u8(2);
            out.put_u32_le(first.0);
            return bits.clone();
        }
    }
    Bytes::new()
}

fn put_request(id: u32, request: &Request, out: &mut BytesMut) {
    match request {
        Request::GetManifest { root } => {
            put_kind_and_id(GET_MANIFEST, id, out);
            out.put_slice(root.as_bytes());
        }
        Request::GetPages { names } => {
            assert!((1..=MAX_NAMED).contains(&names.len()), "pages asked for at once");
            put_kind_and_id(GET_PAGES, id, out);
            names.iter().for_each(|name| out.put_slice(name.as_bytes()));
        }
        Request::GetStatus => put_kind_and_id(GET_STATUS, id, out),
        Request::GetChunks { root, accept, chunks } => {
            assert!((1..=MAX_NAMED).contains(&chunks.len()), "chunks asked for at once");
            put_kind_and_id(GET_CHUNKS, id, out);
            out.put_slice(root.as_bytes());
            let zstd = if accept.zstd { ACCEPT_ZSTD } else { 0 };
            out.put_u8(zstd | accept.delta.map_or(0, |_| ACCEPT_DELTA));
            accept.delta.iter().for_each(|root| out.put_slice(root.as_bytes()));
            chunks.iter().for_each(|chunk| out.put_u32_le(chunk.0));
        }
    }
}

fn put_response(id: u32, response: &Response, out: &mut BytesMut) -> Bytes {
    match response {
        Response::Manifest(piece) => {
            assert!(piece.len() <= MAX_PIECE_BYTES, "a piece of a manifest");
            put_kind_and_id(MANIFEST, id, out);
            return piece.clone();
        }
        Response::Page { name, bytes } => {
            assert_eq!(bytes.len(), PAGE_BYTES, "a manifest page");
            put_kind_and_id(PAGE, id, out);
            out.put_slice(name.as_bytes());
            return bytes.clone();
        }
        Response::Chunk { index, encoding, bytes } => {
            assert!(bytes.len() <= CHUNK_SIZE as usize, "a chunk");
            put_kind_and_id(CHUNK, id, out);
            out.put_u32_le(index.0);
            put_encoding(*encoding, out);
            return bytes.clone();
        }
        Response::NotHere { chunks } => {
            assert!(chunks.len() <= MAX_NAMED, "chunks told of at once");
            put_kind_and_id(NOT_HERE, id, out);
            chunks.iter().for_each(|chunk| out.put_u32_le(chunk.0));
        }
        Response::Status(text) => {
            assert!(text.len() <= MAX_STATUS_BYTES, "a description of a server");
            put_kind_and_id(STATUS, id, out);
            return text.clone();
        }
        Response::Refused(why) => {
            put_kind_and_id(REFUSED, id, out);
            out.put_slice(why.text().as_bytes());
        }
        Response::Done => put_kind_and_id(DONE, id, out),
    }
    Bytes::new()
}

fn put_encoding(encoding: Encoding, out: &mut BytesMut) {
    match encoding {
        Encoding::Raw => out.put_u8(0),
        Encoding::Zstd => out.put_u8(1),
        Encoding::ZstdDelta(root) => {
            out.put_u8(2);
            out.put_slice(root.as_bytes());
        }
    }
}
