//! The REST declarations: paths, requests and views, shared by the server and the command line.
//!
//! Everything under `/v1` is JSON and needs `Authorization: Bearer TOKEN` of somebody who has the role
//! that the endpoint declares ([`Least`]); an answer other than 2xx carries an [`ErrorBody`]. Times are milliseconds since 1970 UTC, sizes are bytes, rates are bytes
//! a second; the names of the fields say so.
//!
//! What it does not do: decide anything. Read next: [`paths`].

pub mod access;
pub mod audit;
pub mod collection;
pub mod device;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod farm_status;
pub mod hook;
pub mod job;
pub mod membership;
pub mod openapi;
pub mod paths;
pub mod replication;
pub mod server;
pub mod session;
pub mod store_care;
pub mod vdisk;
pub mod version;

pub use access::{
    ChangePassword, GrantedToken, Login, NewApiToken, NewUser, PatchUser, SetPassword, TokenView, UserView,
    WhoAmI,
};
pub use audit::{AuditQuery, AuditView};
pub use collection::{CollectionView, NewCollection, PatchCollection, WhenFull};
pub use device::{AcceptPending, DeviceKind, DeviceView, NewDevice, PatchDevice, PendingView};
pub use endpoint::{Endpoint, Least, Method};
pub use error::ErrorBody;
pub use event::{EventView, EventsQuery};
pub use farm_status::{
    DatabaseMemberView, DatabaseView, FarmStatusView, FindingSeverity, FindingView, RememberedView,
    RestoredView, ServerReport, ServerStandingView, ServerState, StoreFillView,
};
pub use hook::{HookReportView, HookView, TestHooks};
pub use job::{JobKind, JobState, JobView};
pub use membership::{GrantedJoinToken, InitFarm, InitialisedFarm, NewJoinToken, RemoveServer};
pub use replication::{
    ArrivalView, BacklogReason, BacklogView, PatchReplication, ReplicationLimit, ReplicationSettingsView,
    ReplicationView, ReplicationWindow, Steer, SteerReplication, TestPropagation, TrafficClass,
};
pub use server::{ServerView, StatusView, StoreView};
pub use session::{NewSession, OpenedSession, SessionView, TimelineStep, WriteCacheView};
pub use store_care::{AdoptFile, AdoptedView, LastScrub, PruneStore, PruneView, ScrubView};
pub use vdisk::{ContentQuery, ExportVDisk, ImageFormat, ImportVDisk, PatchVDisk, VDiskView};
pub use version::{
    BootProfileView, BranchVersion, Changed, DeviceChange, DirtyView, DiscardDraft, DraftView, DryRun, Gate,
    GateView, HolderView, NewVersion, OriginView, OrphanState, OrphanView, PatchVersion, Pin, PromoteTo,
    PromoteVersion, RestoreOrphan, RevertVersion, SealVersion, StampView, VersionState, VersionView,
};
