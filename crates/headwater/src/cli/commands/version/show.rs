//! `headwater version list VDISK` and `show VDISK VERSION`: how versions look to people.

use super::pending::gate_text;
use super::vdisk;
use crate::cli::Context;
use crate::cli::output::{bytes, or_dash, time_of};
use api::{
    BootProfileView, DirtyView, DraftView, HolderView, OriginView, StampView, VersionState, VersionView,
};
use model::Name;
use std::collections::BTreeMap;

/// The columns of a table of versions.
const HEADS: [&str; 7] = ["version", "access", "adds", "made", "by", "held by", "comment"];

pub(super) async fn list(context: &Context, name: &Name) -> anyhow::Result<()> {
    let vdisk = vdisk(context, name).await?;
    context.output.list(&vdisk.versions, &HEADS, row)
}

/// The versions of a vDisk as a table.
pub(crate) fn table(versions: &[VersionView]) -> String {
    crate::cli::output::table(versions, &HEADS, row)
}

fn row(version: &VersionView) -> Vec<String> {
    vec![
        version.number.to_string(),
        access(version),
        or_dash(version.delta_bytes.map(bytes)),
        time_of(version.created_ms),
        version.created_by.clone(),
        or_dash(version.draft.as_ref().and_then(|draft| draft.holder.as_ref()).map(holder)),
        version.comment.clone(),
    ]
}

/// The access mode, and what of it is not plain from its name.
fn access(version: &VersionView) -> String {
    let unsealed = version.state == VersionState::Draft;
    let dirty = version.draft.as_ref().is_some_and(|draft| draft.dirty.is_some());
    let more = match (version.in_production, unsealed, dirty) {
        (true, ..) => " <- boots",
        (_, true, true) => " (draft, unsaved)",
        (_, true, false) => " (draft)",
        _ => "",
    };
    format!("{}{more}", version.access)
}

/// Prints a version, also one that was just made or changed.
pub(super) fn show(context: &Context, version: &VersionView) -> anyhow::Result<()> {
    context.output.one(version, fields)
}

fn fields(version: &VersionView) -> Vec<(&'static str, String)> {
    let kernel = version.kernel.clone().or_else(|| version.not_bootable.clone());
    let mut fields = vec![
        ("version", version.number.to_string()),
        ("access", access(version)),
        ("root", version.root.to_string()),
        ("made on", or_dash(version.parent)),
        ("size", bytes(version.size_bytes)),
        ("data", bytes(version.data_bytes)),
        ("adds", or_dash(version.delta_bytes.map(bytes))),
        ("complete on", names(&version.copies)),
        ("read by", or_dash(read_by(&version.read_by))),
        ("kernel", or_dash(kernel)),
        ("made", format!("{} by {}", time_of(version.created_ms), version.created_by)),
    ];
    fields.extend(version.origin.iter().map(|origin| ("branched", origin_text(origin))));
    fields.push(("boot profile", version.boot_profile.as_ref().map_or_else(|| "none".to_owned(), profile)));
    let stamps = [
        ("sealed", &version.sealed),
        ("promoted", &version.promoted),
        ("retired", &version.retired),
        ("a base", &version.merged),
    ];
    fields.extend(stamps.into_iter().filter_map(|(name, at)| Some((name, stamp(at.as_ref()?)))));
    fields.extend((!version.comment.is_empty()).then(|| ("comment", version.comment.clone())));
    if let Some(gate) = &version.gate {
        fields.push(("waits for", gate_text(&gate.gate)));
        fields.extend(gate.missing.iter().map(|line| ("missing", line.clone())));
    }
    fields.extend(version.draft.iter().flat_map(draft));
    fields
}

fn draft(draft: &DraftView) -> Vec<(&'static str, String)> {
    let dirty = |dirty: &DirtyView| unsaved(draft, dirty);
    vec![
        ("held by", or_dash(draft.holder.as_ref().map(holder))),
        ("unsaved", draft.dirty.as_ref().map_or_else(|| "nothing".to_owned(), dirty)),
        ("checkpoint", time_of(draft.checkpointed_ms)),
        (
            "on one server",
            draft.alone_since_ms.map_or_else(|| "nothing".to_owned(), |since| alone(draft, since)),
        ),
        ("epoch", draft.epoch.to_string()),
    ]
}

fn holder(holder: &HolderView) -> String {
    let who = holder.device.as_ref().map_or_else(|| "an admin".to_owned(), |name| format!("device {name}"));
    format!("{who} on server {} since {}", holder.server, time_of(holder.since_ms))
}

fn unsaved(draft: &DraftView, dirty: &DirtyView) -> String {
    let amount = dirty.bytes.map_or_else(|| "bytes".to_owned(), bytes);
    format!(
        "{amount} on server {} since {}, epochs {}-{}",
        dirty.server,
        time_of(dirty.since_ms),
        dirty.from_epoch,
        draft.epoch
    )
}

/// What is known of the version's boots, in a line.
fn profile(profile: &BootProfileView) -> String {
    let size = format!("{} in {} chunks", bytes(profile.bytes), profile.chunks);
    match (profile.inherited_from, profile.boots) {
        (Some(number), _) => format!("{size}, as version {number} boots"),
        (None, 0) => format!("{size}, as the version below boots"),
        (None, boots) => format!("{size}, from {boots} boots"),
    }
}

/// What would be gone with one server.
fn alone(draft: &DraftView, since_ms: u64) -> String {
    let amount = draft.alone_bytes.map_or_else(|| "bytes".to_owned(), bytes);
    format!("{amount} since {}", time_of(since_ms))
}

fn origin_text(origin: &OriginView) -> String {
    format!("off {} version {}", origin.vdisk, origin.version)
}

fn stamp(stamp: &StampView) -> String {
    format!("{} by {}", time_of(stamp.at_ms), stamp.by)
}

/// `12 on pvs01, 3 on pvs02`.
fn read_by(read_by: &BTreeMap<Name, u32>) -> Option<String> {
    let on: Vec<String> =
        read_by.iter().map(|(server, sessions)| format!("{sessions} on {server}")).collect();
    (!on.is_empty()).then(|| on.join(", "))
}

fn names(names: &[Name]) -> String {
    let names: Vec<_> = names.iter().map(Name::as_str).collect();
    or_dash((!names.is_empty()).then(|| names.join(" ")))
}
