//! Promotion and revert: the production pointer moves, and nothing else does.
//!
//! Rule e of DESIGN section 5. What is promoted is a content that was sealed, named by its root; the
//! admin says which root and which production version were on the screen, and a promotion that
//! would do something else is refused. The vDisk's record is written by every step that moves the
//! pointer or begins to wait for it, so of two at once one conflicts, looks again, and is refused.

use super::{find, find_vdisk, sealed, write_vdisk};
use crate::change::{Change, Refusal, RefusalKind};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::rules::draft::write_version;
use crate::rules::gate;
use crate::timestamp::Stamp;
use crate::vdisk::{Gate, VDisk, Version};
use crate::view::{FarmView, Stored};
use model::{AccessMode, Name, Root, VersionNumber};

/// A promotion, with what the admin saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promote {
    /// The vDisk.
    pub vdisk: Name,
    /// The version.
    pub number: VersionNumber,
    /// To what.
    pub to: PromoteTo,
    /// What the admin saw.
    pub seen: Seen,
}

/// What a version is promoted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromoteTo {
    /// Test devices; also takes a pending version back, and a retired one.
    Test,
    /// Production devices.
    Production(When),
}

/// When a version becomes the one in production.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// With the commit of this change.
    Now(CopyRule),
    /// When its gate is met, which may be at once.
    Gate(Gate),
}

/// How many complete copies there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyRule {
    /// On so many servers of the store, at least on one.
    AtLeast(u32),
    /// None at all: the admin knows better.
    Override,
}

/// What the admin saw when deciding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The version's content.
    pub root: Root,
    /// The version in production.
    pub production: Option<VersionNumber>,
}

/// A revert, with what the admin saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert {
    /// The vDisk.
    pub vdisk: Name,
    /// Which earlier production version; the newest one below the present where there is none.
    pub to: Option<VersionNumber>,
    /// The version in production that the admin saw.
    pub seen: Option<VersionNumber>,
    /// How many servers must have the earlier version.
    pub copies: CopyRule,
}

/// Promotes a sealed version. Running machines keep what they have; they follow at their next boot.
pub fn promote(view: &FarmView, command: &Promote, stamp: &Stamp) -> Result<Change, Refusal> {
    let Promote { vdisk, number, to, seen } = command;
    let (vdisk, version) = (find_vdisk(view, vdisk)?, find(view, vdisk, *number)?);
    sealed(version)?;
    if version.root != seen.root {
        return Err(changed(
            version,
            format!("its root is {}, not {}", version.root.short(), seen.root.short()),
        ));
    }
    match to {
        PromoteTo::Test => to_test(vdisk, version, stamp),
        PromoteTo::Production(when) => {
            head_is(vdisk, seen.production)?;
            may_go_to_production(vdisk, version)?;
            match *when {
                When::Now(copies) => now(view, vdisk, version, copies, stamp),
                When::Gate(gate) => later(view, vdisk, version, gate, stamp),
            }
        }
    }
}

/// Makes an earlier production version the one in production again, at once.
///
/// The one that was is in test again, as before its promotion: the machines that look for the fault
/// boot it, nothing of it is let go. Promotions that wait are cancelled: who asked for them saw
/// another version in production.
pub fn revert(view: &FarmView, command: &Revert, stamp: &Stamp) -> Result<Change, Refusal> {
    let vdisk = find_vdisk(view, &command.vdisk)?;
    let name = &vdisk.name;
    head_is(vdisk, command.seen)?;
    let earlier = |version: &&Stored<Version>| {
        version.access == AccessMode::Production && vdisk.production.is_none_or(|head| version.number < head)
    };
    let version = match command.to {
        Some(number) => find(view, name, number)?,
        None => view.versions_of(name).rev().find(earlier).ok_or_else(|| {
            let hint = format!("promote one: `headwater version list {name}` shows what there is");
            Refusal::new(
                RefusalKind::Invalid,
                format!("vDisk {name} has no earlier production version"),
                hint,
            )
        })?,
    };
    let number = version.number;
    if version.access != AccessMode::Production || vdisk.production == Some(number) {
        let what =
            if vdisk.production == Some(number) { "is in production now" } else { "never was in production" };
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("version {number} of vDisk {name} {what}"),
            format!("revert to an earlier production version: `headwater version list {name}`"),
        ));
    }
    let mut change = Change::default();
    enough_copies(view, &mut change, vdisk, version, command.copies)?;
    if let Some(bad) = view.production_of(name) {
        write_version(&mut change, bad, Version { access: AccessMode::Test, ..bad.record.clone() });
    }
    change.unchanged(Key::Version(name.clone(), number), version);
    supersede_others(view, &mut change, vdisk, number, stamp);
    write_vdisk(&mut change, vdisk, VDisk { production: Some(number), ..vdisk.record.clone() });
    let message = format!(
        "{} put version {number} of vDisk {name} back in production, in place of version {}",
        stamp.by,
        number_text(vdisk.production)
    );
    change.event(NewEvent::new(EventKind::VersionReverted, name, message));
    Ok(change)
}

/// Puts into `change` what makes `version` the one in production.
pub(in crate::rules) fn put_in_production(
    view: &FarmView,
    change: &mut Change,
    vdisk: &Stored<VDisk>,
    version: &Stored<Version>,
    stamp: &Stamp,
) {
    let (name, number) = (&vdisk.name, version.number);
    let next = Version {
        access: AccessMode::Production,
        gate: None,
        promoted: Some(stamp.clone()),
        retired: None,
        ..version.record.clone()
    };
    write_version(change, version, next);
    supersede_others(view, change, vdisk, number, stamp);
    write_vdisk(change, vdisk, VDisk { production: Some(number), ..vdisk.record.clone() });
    let message = format!(
        "{} promoted version {number} of vDisk {name} to production, in place of version {} (root {})",
        stamp.by,
        number_text(vdisk.production),
        version.root.short()
    );
    change.event(NewEvent::new(EventKind::VersionPromoted, name, message));
}

fn to_test(vdisk: &Stored<VDisk>, version: &Stored<Version>, stamp: &Stamp) -> Result<Change, Refusal> {
    let (name, number) = (&vdisk.name, version.number);
    let refused = |what: &str, hint: String| {
        let message = format!("version {number} of vDisk {name} {what}");
        Err(Refusal::new(RefusalKind::Invalid, message, hint))
    };
    let mut change = Change::default();
    let (kind, what) = match version.access {
        AccessMode::Test => return refused("is in test already", "there is nothing to do".to_owned()),
        AccessMode::Production => {
            let hint = format!("to take it out of production: `headwater version revert {name}`");
            return refused("is or was in production", hint);
        }
        AccessMode::Pending => {
            // The pointer does not move, but whoever is about to move it saw this one waiting.
            write_vdisk(&mut change, vdisk, vdisk.record.clone());
            (EventKind::PromotionCancelled, "took back the promotion of")
        }
        AccessMode::Maintenance | AccessMode::Retired => (EventKind::VersionPromoted, "brought to test"),
    };
    let next = Version {
        access: AccessMode::Test,
        gate: None,
        promoted: Some(stamp.clone()),
        retired: None,
        ..version.record.clone()
    };
    write_version(&mut change, version, next);
    let message = format!("{} {what} version {number} of vDisk {name}", stamp.by);
    change.event(NewEvent::new(kind, name, message));
    Ok(change)
}

fn now(
    view: &FarmView,
    vdisk: &Stored<VDisk>,
    version: &Stored<Version>,
    copies: CopyRule,
    stamp: &Stamp,
) -> Result<Change, Refusal> {
    let mut change = Change::default();
    enough_copies(view, &mut change, vdisk, version, copies)?;
    put_in_production(view, &mut change, vdisk, version, stamp);
    Ok(change)
}

fn later(
    view: &FarmView,
    vdisk: &Stored<VDisk>,
    version: &Stored<Version>,
    gate: Gate,
    stamp: &Stamp,
) -> Result<Change, Refusal> {
    let (name, number) = (&vdisk.name, version.number);
    gate::check(view, vdisk, gate)?;
    let others =
        view.versions_of(name).find(|other| other.access == AccessMode::Pending && other.number != number);
    if let Some(other) = others {
        let other = other.number;
        return Err(Refusal::new(
            RefusalKind::InUse,
            format!("version {other} of vDisk {name} waits for its promotion already, and only one may"),
            format!("take it back first: `headwater version promote {name} {other} --to test`"),
        ));
    }
    let mut change = Change::default();
    if gate::is_met(view, &mut change, vdisk, version, gate, stamp.at) {
        put_in_production(view, &mut change, vdisk, version, stamp);
        return Ok(change);
    }
    // What was relied upon for an open gate does not matter for a closed one.
    let mut change = Change::default();
    let next = Version {
        access: AccessMode::Pending,
        gate: Some(gate),
        promoted: Some(stamp.clone()),
        ..version.record.clone()
    };
    write_version(&mut change, version, next);
    write_vdisk(&mut change, vdisk, vdisk.record.clone());
    let message =
        format!("{} promoted version {number} of vDisk {name} to production {}", stamp.by, gate::text(gate));
    change.event(NewEvent::new(EventKind::VersionPending, name, message));
    Ok(change)
}

fn head_is(vdisk: &VDisk, seen: Option<VersionNumber>) -> Result<(), Refusal> {
    if vdisk.production == seen {
        return Ok(());
    }
    let (name, is, was) = (&vdisk.name, number_text(vdisk.production), number_text(seen));
    Err(Refusal::new(
        RefusalKind::Changed,
        format!("version {is} of vDisk {name} is in production now, not version {was} as you saw"),
        format!("look again (`headwater version list {name}`), then decide again"),
    ))
}

fn may_go_to_production(vdisk: &VDisk, version: &Version) -> Result<(), Refusal> {
    let (name, number) = (&vdisk.name, version.number);
    let (what, hint) = match version.access {
        AccessMode::Maintenance | AccessMode::Test | AccessMode::Pending => return Ok(()),
        AccessMode::Production if vdisk.production == Some(number) => {
            ("is in production already", "there is nothing to do".to_owned())
        }
        AccessMode::Production => {
            ("was in production before", format!("`headwater version revert {name} --to {number}`"))
        }
        AccessMode::Retired => (
            "is retired",
            format!("bring it back to test: `headwater version promote {name} {number} --to test`"),
        ),
    };
    Err(Refusal::new(RefusalKind::Invalid, format!("version {number} of vDisk {name} {what}"), hint))
}

fn enough_copies(
    view: &FarmView,
    change: &mut Change,
    vdisk: &VDisk,
    version: &Version,
    rule: CopyRule,
) -> Result<(), Refusal> {
    let CopyRule::AtLeast(wanted) = rule else { return Ok(()) };
    let wanted = wanted.max(1);
    let have = gate::rely_on_copies(view, change, vdisk, version.root, wanted);
    if have >= wanted {
        return Ok(());
    }
    let (name, number) = (&vdisk.name, version.number);
    let hint = format!(
        "let it wait for them: `headwater version promote {name} {number} --to production --copies {wanted}`; `--force` does not ask"
    );
    Err(Refusal::new(
        RefusalKind::InUse,
        format!("{have} servers have version {number} of vDisk {name} completely, and {wanted} are wanted"),
        hint,
    ))
}

/// The pointer moves: promotions that wait were asked for by somebody who saw another one there.
fn supersede_others(
    view: &FarmView,
    change: &mut Change,
    vdisk: &VDisk,
    number: VersionNumber,
    stamp: &Stamp,
) {
    let name = &vdisk.name;
    let waits = |other: &&Stored<Version>| other.access == AccessMode::Pending && other.number != number;
    for other in view.versions_of(name).filter(waits) {
        write_version(
            change,
            other,
            Version { access: AccessMode::Test, gate: None, ..other.record.clone() },
        );
        let message = format!(
            "version {} of vDisk {name} does not wait for its promotion any more, it is in test: {} put version \
             {number} in production",
            other.number, stamp.by
        );
        change.event(NewEvent::new(EventKind::PromotionCancelled, name, message));
    }
}

fn changed(version: &Version, what: String) -> Refusal {
    let Version { vdisk, number, .. } = version;
    Refusal::new(
        RefusalKind::Changed,
        format!("version {number} of vDisk {vdisk} is not what you saw: {what}"),
        format!("look again (`headwater version show {vdisk} {number}`), then decide again"),
    )
}

fn number_text(number: Option<VersionNumber>) -> String {
    number.map_or_else(|| "none".to_owned(), |number| number.to_string())
}
