//! The closed set of what servers say to each other.

use super::{MAX_TEXT_BYTES, REVISION};
use bytes::Bytes;
use model::{ChunkIndex, Name, PageHash, Root};
use std::fmt;
use std::str::FromStr;

/// Which farm a server belongs to: 128 random bits, made once by `headwater farm init`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FarmId(pub [u8; 16]);

/// Why a text is no farm id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a farm's id has 32 hexadecimal digits")]
pub struct ParseFarmIdError;

/// What a connection is for; each peer pair has one of each, so that none waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Possession, manifests, pages.
    Control,
    /// Chunks that a device waits for.
    OnDemand,
    /// Chunks that are fetched ahead.
    Bulk,
}

/// The first frame in both directions; anything else before it ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The protocol's revision: [`REVISION`].
    pub revision: u16,
    /// The farm that the sender belongs to.
    pub farm: FarmId,
    /// The sender's name; its certificate must say the same.
    pub server: Name,
    /// How often the sender has started; a higher one makes all that a lower one said void.
    pub incarnation: u64,
    /// What this connection is for; the end that accepted it repeats what it was told.
    pub class: Class,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who speaks.
    Hello(Hello),
    /// Nothing, so that the other end knows that this one lives.
    Alive,
    /// Asks for the whole state of possession: a [`Frame::Have`] for each root, then [`Frame::HaveEnd`].
    WantHave,
    /// What the sender has of a root.
    Have(Have),
    /// The whole state was told: of roots not named since the connection began, nothing is here.
    HaveEnd,
    /// A request.
    Request {
        /// Chosen by the sender, and not in use by another request of its own on this connection.
        id: u32,
        /// What is asked for.
        request: Request,
    },
    /// The sender of this request no longer wants its answer; `Done` still ends it.
    Cancel {
        /// The request's id.
        id: u32,
    },
    /// A part of a request's answer.
    Response {
        /// The request's id.
        id: u32,
        /// The part.
        response: Response,
    },
}

/// What the sender has of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Have {
    /// The version's content.
    pub root: Root,
    /// Rises with every change that the sender tells in one incarnation.
    pub sequence: u64,
    /// What of it is here.
    pub possession: Possession,
}

/// How much of a root is on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Possession {
    /// Nothing any more, or nothing that may be asked for.
    Gone,
    /// Every chunk.
    Complete,
    /// Of 8 x `bits.len()` chunks from `first`, those whose bit is set (lowest bit first); what was
    /// said of other chunks stays as it was. At most 1 MiB of bits; larger ones come in pieces.
    Part {
        /// The first chunk, a multiple of 8.
        first: ChunkIndex,
        /// One bit a chunk.
        bits: Bytes,
    },
}

/// What a server asks its peer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The manifest of a root: [`Response::Manifest`] pieces.
    GetManifest {
        /// Which one.
        root: Root,
    },
    /// Manifest pages: a [`Response::Page`] each.
    GetPages {
        /// Which ones, 1 to [`super::MAX_NAMED`].
        names: Vec<PageHash>,
    },
    /// Chunks of a root: a [`Response::Chunk`] each, in the order asked for.
    GetChunks {
        /// The version's content.
        root: Root,
        /// Which encodings the sender can read.
        accept: Accept,
        /// Which chunks, 1 to [`super::MAX_NAMED`].
        chunks: Vec<ChunkIndex>,
    },
    /// How the server is: one [`Response::Status`].
    GetStatus,
}

/// Which encodings of a chunk are welcome; raw bytes always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// [`Encoding::Zstd`].
    pub zstd: bool,
    /// [`Encoding::ZstdDelta`] against this root, of which the sender has the chunks asked for.
    pub delta: Option<Root>,
}

/// A part of an answer. [`Response::Done`] or [`Response::Refused`] is the last one, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The next piece of an encoded manifest, at most [`super::MAX_PIECE_BYTES`].
    Manifest(Bytes),
    /// A manifest page.
    Page {
        /// Its name.
        name: PageHash,
        /// Its hashes as `model::Page::encode` has them: 32,768 bytes.
        bytes: Bytes,
    },
    /// A chunk.
    Chunk {
        /// Its place in the disk.
        index: ChunkIndex,
        /// How `bytes` says it.
        encoding: Encoding,
        /// At most 65,536 bytes; decoded they are as long as the chunk is inside the disk.
        bytes: Bytes,
    },
    /// These are not here; an empty list says that nothing of the root is.
    NotHere {
        /// Which chunks, at most [`super::MAX_NAMED`].
        chunks: Vec<ChunkIndex>,
    },
    /// How the server is: JSON, at most [`super::MAX_STATUS_BYTES`]; a newer program may say more in it.
    Status(Bytes),
    /// The request cannot be answered, and why; ends it.
    Refused(Refused),
    /// All is said.
    Done,
}

/// How the bytes of a chunk are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// One zstd frame (RFC 8878).
    Zstd,
    /// One zstd frame, with the chunk at the same place of this root as raw dictionary.
    ZstdDelta(Root),
}

/// A text for people that fits into a frame: at most [`MAX_TEXT_BYTES`], no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(String);

impl Refused {
    /// Shortens `text` to what may be sent; control characters become spaces.
    pub fn new(text: &str) -> Self {
        let mut end = text.len().min(MAX_TEXT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Hello {
    /// A hello of this revision.
    pub fn new(farm: FarmId, server: Name, incarnation: u64, class: Class) -> Self {
        Self { revision: REVISION, farm, server, incarnation, class }
    }
}

impl Class {
    /// All of them, in the order of their importance to a peer pair.
    pub const ALL: [Self; 3] = [Self::Control, Self::OnDemand, Self::Bulk];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::OnDemand => "on-demand",
            Self::Bulk => "bulk",
        })
    }
}

impl Response {
    /// Whether this is the last part of its answer.
    pub fn ends(&self) -> bool {
        matches!(self, Self::Done | Self::Refused(_))
    }
}

impl fmt::Display for FarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FarmId({self})")
    }
}

impl FromStr for FarmId {
    type Err = ParseFarmIdError;
    fn from_str(text: &str) -> Result<Self, ParseFarmIdError> {
        let digits = text.as_bytes();
        let mut id = [0; 16];
        if digits.len() != 32 {
            return Err(ParseFarmIdError);
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).ok_or(ParseFarmIdError);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(id))
    }
}

impl serde::Serialize for FarmId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for FarmId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}
