//! What servers ask of the farm's database: each a call of a rule on the records as the server last
//! saw them.

use crate::Flaw;
use crate::network::name;
use farm::rules::copy;
use farm::rules::draft::{self, Attach, Content, Lease, SinceCheckpoint};
use farm::rules::reading::{Earlier, publish};
use farm::rules::setup::{ServerStarts, server_starts};
use farm::rules::vdisk::{RegisterVDisk, register};
use farm::rules::version::{self, CopyRule, CreateVersion, Promote, PromoteTo, Seen, When};
use farm::{Bootable, Change, Epoch, FarmView, Here, Key, Reads, Record, Stamp, Timestamp, Version, Write};
use model::{AccessMode, DiskSize, Name, Root, VersionNumber};
use std::collections::BTreeSet;

const NOW: Timestamp = Timestamp(0);

/// Something that a server wants to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Take the lease of a draft, for a device or for the server itself.
    Attach {
        /// The draft.
        number: VersionNumber,
        /// Whether a device will write.
        device: bool,
        /// Whether the files that are there go on; else they begin above the checkpoint.
        resumes: bool,
        /// The last checkpoint.
        checkpoint: Root,
        /// The epoch that the lease will have.
        epoch: Epoch,
    },
    /// Note that bytes are about to be acknowledged.
    Mark(VersionNumber, Epoch),
    /// Make a content the draft's checkpoint; no write is admitted meanwhile.
    Checkpoint(VersionNumber, Epoch, Root),
    /// Give the lease back.
    Detach(VersionNumber, Epoch),
    /// End the draft.
    Seal(VersionNumber, Epoch, Root),
    /// An admin takes the lease away from whoever has it.
    Release(VersionNumber),
    /// An admin promotes what is on the screen.
    Promote(VersionNumber),
    /// An admin makes a new version of what is in production.
    Create,
    /// An admin deletes a version.
    Delete(VersionNumber),
    /// Tell which contents are whole here.
    Report(BTreeSet<Root>),
    /// Tell what the sessions here read.
    Read(Vec<Reads>, Earlier),
    /// Let a copy go that nothing needs; its bytes are deleted when this is committed.
    Forget(Root),
}

/// The one vDisk.
pub fn vdisk() -> Name {
    named("win11")
}

/// The one store.
pub fn store() -> Name {
    named("default")
}

fn named(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The name of a server.
pub fn server_name(server: usize) -> Name {
    named(name(server))
}

fn admin() -> Stamp {
    Stamp::new("admin", NOW)
}

fn bootable() -> Bootable {
    Bootable::No { reason: String::new() }
}

fn content(root: Root) -> Content {
    Content { root, data_bytes: 0, boot: bootable() }
}

impl Intent {
    /// Asks the rule; none where it refuses. `sessions` are those here that read the version an admin
    /// wants to delete.
    pub fn decide(&self, view: &FarmView, server: usize, sessions: &[String], flaw: Flaw) -> Option<Change> {
        let own = server_name(server);
        let lease = |number: VersionNumber, epoch: Epoch| Lease {
            vdisk: vdisk(),
            number,
            server: own.clone(),
            epoch,
        };
        match self {
            Self::Attach { number, device, .. } => {
                let device = device.then(|| named("master"));
                let attach = Attach { vdisk: vdisk(), number: *number, server: own, device };
                draft::attach(view, &attach, NOW).ok().map(|(change, _)| change)
            }
            Self::Mark(number, epoch) => draft::mark_dirty(view, &lease(*number, *epoch), NOW).ok(),
            Self::Checkpoint(number, epoch, root) => {
                let lease = lease(*number, *epoch);
                draft::checkpoint(view, &lease, content(*root), SinceCheckpoint::Clean, NOW).ok()
            }
            Self::Detach(number, epoch) => draft::detach(view, &lease(*number, *epoch)).ok(),
            Self::Seal(number, epoch, root) => {
                draft::seal(view, &lease(*number, *epoch), content(*root), &admin()).ok()
            }
            Self::Release(number) => draft::release(view, &vdisk(), *number, &admin()).ok(),
            Self::Promote(number) if flaw == Flaw::PromotionUnchecked => promote_unchecked(view, *number),
            Self::Promote(number) => promote(view, *number),
            Self::Create => {
                let create = CreateVersion { vdisk: vdisk(), from: None, comment: String::new() };
                version::create(view, create, &admin()).ok()
            }
            Self::Delete(number) => {
                let here = Here { server: &own, sessions };
                version::delete(&as_seen(view, flaw), &vdisk(), *number, here, &admin()).ok()
            }
            Self::Read(reads, earlier) => {
                publish(view, &own, reads, *earlier).ok().filter(|c| !c.writes.is_empty())
            }
            Self::Report(whole) => {
                Some(copy::report(view, &own, whole, NOW)).filter(|c| !c.writes.is_empty())
            }
            Self::Forget(root) => copy::forget(&as_seen(view, flaw), *root, &own).ok(),
        }
    }
}

/// What whoever deletes looks at.
fn as_seen(view: &FarmView, flaw: Flaw) -> FarmView {
    match flaw {
        Flaw::OthersNotAsked | Flaw::PruneWithoutSessions => {
            FarmView { readings: Default::default(), ..view.clone() }
        }
        _ => view.clone(),
    }
}

fn promote(view: &FarmView, number: VersionNumber) -> Option<Change> {
    let root = view.version(&vdisk(), number)?.root;
    let seen = Seen { root, production: view.vdisks.get(&vdisk())?.production };
    let to = PromoteTo::Production(When::Now(CopyRule::AtLeast(1)));
    version::promote(view, &Promote { vdisk: vdisk(), number, to, seen }, &admin()).ok()
}

/// What the trap is made of: the server's own idea of the version becomes everybody's.
fn promote_unchecked(view: &FarmView, number: VersionNumber) -> Option<Change> {
    let seen = view.version(&vdisk(), number)?;
    let mut head = view.vdisks.get(&vdisk())?.record.clone();
    head.production = Some(number);
    let version = Version { access: AccessMode::Production, ..seen.record.clone() };
    let writes = vec![
        Write::Put(Key::VDisk(vdisk()), head.encode()),
        Write::Put(Key::Version(vdisk(), number), version.encode()),
    ];
    Some(Change { writes, ..Change::default() })
}

/// The farm before anything happens: three servers, one vDisk, version 1 whole on the first.
pub fn first_farm(root: Root) -> FarmView {
    let alone = |view: &FarmView, change: &Change| {
        crate::database::committed(view, change).expect("nobody else is there")
    };
    let mut farm = FarmView::default();
    for server in 0..crate::network::SERVERS {
        let stores = [(named("default"), "/srv".to_owned())].into();
        let starts = ServerStarts { server: server_name(server), stores, new_token_hash: None };
        farm = alone(&farm, &server_starts(&farm, starts, NOW));
    }
    let image = RegisterVDisk {
        name: vdisk(),
        store: named("default"),
        server: server_name(0),
        root,
        size: DiskSize::new(1 << 20).expect("a size"),
        data_bytes: 0,
        boot: bootable(),
        comment: String::new(),
        by: String::new(),
    };
    alone(&farm, &register(&farm, image, NOW).expect("the name is free"))
}
