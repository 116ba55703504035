//! The rules of a farm: records and a command in, a [`Change`] or a [`Refusal`] out.
//!
//! Pure: time is handed in, nothing is read or written. A change was computed from a
//! [`FarmView`] of one revision and says in its preconditions what of that view it relied on; the
//! caller commits it through `farm-db`, which refuses it if any of that has changed since, and the
//! caller asks the rule again with the new view. That is what makes two servers safe.
//!
//! Read next: [`view`] for the snapshot, [`rules`] for the commands, [`rules::boot`] for what a
//! booting device gets.

pub mod audit;
pub mod canary;
pub mod change;
pub mod collection;
pub mod device;
pub mod draft;
pub mod event;
pub mod identity;
pub mod key;
pub mod membership;
pub mod people;
pub mod profile;
pub mod reading;
pub mod record;
pub mod replication;
pub mod restored;
pub mod retention;
pub mod rules;
pub mod timestamp;
pub mod topology;
pub mod vdisk;
pub mod view;

pub use audit::{AUDIT_PREFIX, Actor, AuditFilter, AuditId, AuditRecord, AuditResult};
pub use canary::Canary;
pub use change::{Change, Expect, Precondition, Refusal, RefusalKind, Write};
pub use collection::{Collection, Naming, WhenFull, WriteCache};
pub use device::{Device, DeviceKind, PendingDevice, PendingState};
pub use draft::{CompleteCopy, Dirty, Draft, Epoch, Holder, Orphan, OrphanId, OrphanState};
pub use event::{Event, EventId, EventKind, NewEvent, Severity};
pub use identity::IdentitySecret;
pub use key::{Guard, Key};
pub use membership::{FarmAuthority, JoinToken, Member};
pub use people::{ApiToken, Level, Role, TokenId, TokenKind, User};
pub use profile::LearnedProfile;
pub use reading::{Live, Reading, Reads};
pub use record::{FormatRevision, Record, RecordError};
pub use replication::{Allowed, AllowedUntil, ReplicationSettings, TrafficClass, Window};
pub use restored::Restored;
pub use retention::Retention;
pub use rules::boot::{Boot, BootAccess, BootDecision, BootMenu, BootRequest, boot_decision};
pub use rules::reach::{roots_in_use, roots_kept};
pub use rules::reading::{Here, is_read};
pub use timestamp::{Stamp, Timestamp};
pub use topology::{AdminToken, Farm, Server, Site, Store};
pub use vdisk::{Bootable, Checkpoints, Doomed, Gate, Origin, VDisk, Version, VersionState};
pub use view::{FarmView, Stored};
