//! The data of the options of the handshake (NBD proto.md, "Option types").

use crate::nbd::wire::{BASE_ALLOCATION, MAX_STRING_BYTES, be_u16, be_u32, info};

/// The metadata queries of one option that are looked at; more are refused.
const MAX_QUERIES: u32 = 64;

/// The data of `INFO` and `GO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InfoRequest {
    pub(super) name: String,
    pub(super) wants_name: bool,
    pub(super) wants_description: bool,
}

impl InfoRequest {
    /// What `EXPORT_NAME` asks for: the export and nothing about it.
    pub(super) fn bare(name: String) -> Self {
        Self { name, wants_name: false, wants_description: false }
    }
}

/// The data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MetaRequest {
    pub(super) name: String,
    /// A query is exactly `base:allocation`.
    pub(super) selects_allocation: bool,
    /// `base:allocation` belongs to the answer of a LIST.
    pub(super) lists_allocation: bool,
}

/// Reads an `INFO` or `GO`; none where the data make no sense.
pub(super) fn info_request(data: &[u8]) -> Option<InfoRequest> {
    let (name, rest) = counted_string(data)?;
    if rest.len() < 2 || rest.len() != 2 + 2 * usize::from(be_u16(rest, 0)) {
        return None;
    }
    let wants = |kind: u16| rest[2..].chunks_exact(2).any(|item| be_u16(item, 0) == kind);
    Some(InfoRequest { name, wants_name: wants(info::NAME), wants_description: wants(info::DESCRIPTION) })
}

/// Reads a metadata option; none where the data make no sense.
pub(super) fn meta_request(data: &[u8]) -> Option<MetaRequest> {
    let (name, rest) = counted_string(data)?;
    if rest.len() < 4 {
        return None;
    }
    let count = be_u32(rest, 0);
    let (mut selects, mut lists, mut rest) = (false, count == 0, &rest[4..]);
    if count > MAX_QUERIES {
        return None;
    }
    for _ in 0..count {
        let (query, after) = counted_string(rest)?;
        selects |= query == BASE_ALLOCATION;
        lists |= query == BASE_ALLOCATION || query == "base:";
        rest = after;
    }
    let request = MetaRequest { name, selects_allocation: selects, lists_allocation: lists };
    rest.is_empty().then_some(request)
}

/// An export name that is the whole of an option's data.
pub(super) fn bare_name(data: &[u8]) -> Option<String> {
    if data.len() > MAX_STRING_BYTES as usize {
        return None;
    }
    String::from_utf8(data.to_vec()).ok()
}

fn counted_string(data: &[u8]) -> Option<(String, &[u8])> {
    if data.len() < 4 {
        return None;
    }
    let end = 4usize.checked_add(usize::try_from(be_u32(data, 0)).ok()?)?;
    let text = data.get(4..end)?;
    Some((bare_name(text)?, &data[end..]))
}
