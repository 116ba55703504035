//! Where things are; each path in one place, so that server and command line agree.

/// Answers 200 while the server works; no token needed.
pub const HEALTHZ: &str = "/healthz";
/// GET: figures in Prometheus' text format.
pub const METRICS: &str = "/metrics";
/// GET: the description of the API (OpenAPI 3.1).
pub const OPENAPI: &str = "/v1/openapi.json";
/// GET: [`crate::StatusView`].
pub const STATUS: &str = "/v1/status";
/// GET: list of [`crate::VDiskView`]. POST [`crate::ImportVDisk`]: a [`crate::JobView`].
pub const VDISKS: &str = "/v1/vdisks";
/// GET, PATCH [`crate::PatchVDisk`]: [`crate::VDiskView`]. DELETE.
pub const VDISK: &str = "/v1/vdisks/{name}";
/// PUT: the body is a raw image; answers the [`crate::VDiskView`] when it is imported. Query:
/// `comment`, `store`, `bytes` (how long the body will be, for the progress of others).
pub const VDISK_CONTENT: &str = "/v1/vdisks/{name}/content";
/// POST [`crate::ExportVDisk`]: a [`crate::JobView`].
pub const VDISK_EXPORT: &str = "/v1/vdisks/{name}/export";
/// POST [`crate::TestHooks`]: list of [`crate::HookReportView`], when all have run.
pub const HOOK_TEST: &str = "/v1/vdisks/{name}/versions/{number}/hook-test";
/// GET: list of [`crate::HookView`].
pub const HOOKS: &str = "/v1/hooks";
/// GET: list of [`crate::VersionView`], lowest number first. POST [`crate::NewVersion`]: a
/// [`crate::VersionView`].
pub const VERSIONS: &str = "/v1/vdisks/{name}/versions";
/// GET, PATCH [`crate::PatchVersion`]: [`crate::VersionView`]. DELETE.
pub const VERSION: &str = "/v1/vdisks/{name}/versions/{number}";
/// POST: a [`crate::JobView`]; the draft's present state becomes durable as a content of its own.
pub const VERSION_CHECKPOINT: &str = "/v1/vdisks/{name}/versions/{number}/checkpoint";
/// POST [`crate::SealVersion`]: a [`crate::JobView`].
pub const VERSION_SEAL: &str = "/v1/vdisks/{name}/versions/{number}/seal";
/// POST [`crate::PromoteVersion`]: [`crate::Changed`].
pub const VERSION_PROMOTE: &str = "/v1/vdisks/{name}/versions/{number}/promote";
/// POST [`crate::RevertVersion`]: [`crate::Changed`]. The number is the version to go back to.
pub const VERSION_REVERT: &str = "/v1/vdisks/{name}/versions/{number}/revert";
/// POST [`crate::Pin`]: [`crate::Changed`].
pub const VERSION_PIN: &str = "/v1/vdisks/{name}/versions/{number}/pin";
/// POST [`crate::Pin`]: [`crate::Changed`]. The number is the version that is pinned.
pub const VERSION_UNPIN: &str = "/v1/vdisks/{name}/versions/{number}/unpin";
/// POST: [`crate::VersionView`].
pub const VERSION_RETIRE: &str = "/v1/vdisks/{name}/versions/{number}/retire";
/// POST [`crate::BranchVersion`]: the new [`crate::VDiskView`].
pub const VERSION_BRANCH: &str = "/v1/vdisks/{name}/versions/{number}/branch";
/// POST: [`crate::VersionView`]; the version becomes a base, each store rebuilds its files later.
pub const VERSION_MERGE: &str = "/v1/vdisks/{name}/versions/{number}/merge";
/// POST: [`crate::VersionView`]; the draft's holder may not write any more.
pub const VERSION_RELEASE: &str = "/v1/vdisks/{name}/versions/{number}/release";
/// POST [`crate::DiscardDraft`]: [`crate::VersionView`].
pub const VERSION_DISCARD: &str = "/v1/vdisks/{name}/versions/{number}/discard";
/// GET: list of [`crate::OrphanView`].
pub const ORPHANS: &str = "/v1/vdisks/{name}/orphans";
/// DELETE: for good. The version's number and the last discarded epoch name it.
pub const ORPHAN: &str = "/v1/vdisks/{name}/orphans/{number}/{epoch}";
/// POST [`crate::RestoreOrphan`]: the new [`crate::VDiskView`].
pub const ORPHAN_RESTORE: &str = "/v1/vdisks/{name}/orphans/{number}/{epoch}/restore";
/// GET: list of [`crate::JobView`], newest last.
pub const JOBS: &str = "/v1/jobs";
/// GET: [`crate::JobView`]. DELETE: cancels it.
pub const JOB: &str = "/v1/jobs/{id}";
/// GET: list of [`crate::DeviceView`]. POST [`crate::NewDevice`]: a [`crate::DeviceView`].
pub const DEVICES: &str = "/v1/devices";
/// GET, PATCH [`crate::PatchDevice`]: [`crate::DeviceView`]. DELETE.
pub const DEVICE: &str = "/v1/devices/{name}";
/// GET: list of [`crate::CollectionView`]. POST [`crate::NewCollection`].
pub const COLLECTIONS: &str = "/v1/collections";
/// GET, PATCH [`crate::PatchCollection`]: [`crate::CollectionView`]. DELETE.
pub const COLLECTION: &str = "/v1/collections/{name}";
/// GET: list of [`crate::PendingView`].
pub const PENDING: &str = "/v1/pending";
/// DELETE: takes it off the list.
pub const PENDING_ONE: &str = "/v1/pending/{mac}";
/// POST [`crate::AcceptPending`]: a [`crate::DeviceView`].
pub const PENDING_ACCEPT: &str = "/v1/pending/{mac}/accept";
/// POST: keeps it from booting.
pub const PENDING_REJECT: &str = "/v1/pending/{mac}/reject";
/// GET: list of [`crate::ServerView`].
pub const SERVERS: &str = "/v1/servers";
/// DELETE [`crate::RemoveServer`] (query): it is no member of the farm any more.
pub const SERVER: &str = "/v1/servers/{name}";
/// GET: [`crate::FarmStatusView`].
pub const FARM_STATUS: &str = "/v1/farm/status";
/// POST: what no record names may be deleted again, after a restore.
pub const FARM_ACCEPT: &str = "/v1/farm/accept";
/// POST: the bytes of a backup, as docs/formats.md describes them.
pub const FARM_BACKUP: &str = "/v1/farm/backup";
/// POST [`crate::InitFarm`]: a [`crate::InitialisedFarm`].
pub const FARM_INIT: &str = "/v1/farm/init";
/// POST [`crate::NewJoinToken`]: a [`crate::GrantedJoinToken`].
pub const FARM_TOKENS: &str = "/v1/farm/tokens";
/// GET: list of [`crate::StoreView`].
pub const STORES: &str = "/v1/stores";
/// POST [`crate::PruneStore`]: [`crate::PruneView`].
pub const STORE_PRUNE: &str = "/v1/stores/{name}/prune";
/// GET, POST: begins, DELETE: stops; all answer [`crate::ScrubView`].
pub const STORE_SCRUB: &str = "/v1/stores/{name}/scrub";
/// Files that were brought by other means.
pub const STORE_ADOPT: &str = "/v1/stores/{name}/adopt";
/// GET: [`crate::ReplicationView`].
pub const REPLICATION: &str = "/v1/replication";
/// GET: list of [`crate::BacklogView`].
pub const REPLICATION_BACKLOG: &str = "/v1/replication/backlog";
/// How long a small content takes to every server.
pub const REPLICATION_TEST: &str = "/v1/replication/test";
/// GET, PATCH [`crate::PatchReplication`]: [`crate::ReplicationSettingsView`].
pub const REPLICATION_SETTINGS: &str = "/v1/replication/settings";
/// POST [`crate::SteerReplication`]: [`crate::ReplicationSettingsView`].
pub const VDISK_REPLICATION: &str = "/v1/vdisks/{name}/replication";
/// GET: list of [`crate::SessionView`]. POST [`crate::NewSession`]: [`crate::OpenedSession`].
pub const SESSIONS: &str = "/v1/sessions";
/// GET: [`crate::SessionView`]. DELETE: ends it.
pub const SESSION: &str = "/v1/sessions/{id}";
/// GET: list of [`crate::EventView`], oldest first.
pub const EVENTS: &str = "/v1/events";
/// GET: server-sent events whose data is one [`crate::EventView`] each: the present ones, then each
/// new one; behind the one that the header `Last-Event-ID` names.
pub const EVENTS_STREAM: &str = "/v1/events/stream";

/// POST [`crate::Login`]: a [`crate::GrantedToken`]; no token needed.
pub const LOGIN: &str = "/v1/login";
/// POST: the token that it is sent with proves nothing any more.
pub const LOGOUT: &str = "/v1/logout";
/// GET: [`crate::WhoAmI`].
pub const WHOAMI: &str = "/v1/whoami";
/// POST [`crate::ChangePassword`]: one's own.
pub const OWN_PASSWORD: &str = "/v1/whoami/password";
/// GET: list of [`crate::UserView`]. POST [`crate::NewUser`]: a [`crate::UserView`].
pub const USERS: &str = "/v1/users";
/// GET, PATCH [`crate::PatchUser`]: [`crate::UserView`]. DELETE.
pub const USER: &str = "/v1/users/{name}";
/// POST [`crate::SetPassword`].
pub const USER_PASSWORD: &str = "/v1/users/{name}/password";
/// GET: list of [`crate::TokenView`]. POST [`crate::NewApiToken`]: a [`crate::GrantedToken`].
pub const TOKENS: &str = "/v1/tokens";
/// DELETE: it proves nothing any more.
pub const TOKEN: &str = "/v1/tokens/{id}";

/// GET: list of [`crate::AuditView`], newest first.
pub const AUDIT: &str = "/v1/audit";

/// Fills the one `{...}` of a path. Names, MAC addresses and ids need no escaping.
pub fn fill(path: &str, value: impl std::fmt::Display) -> String {
    match (path.find('{'), path.find('}')) {
        (Some(from), Some(to)) => format!("{}{value}{}", &path[..from], &path[to + 1..]),
        _ => path.to_owned(),
    }
}

/// Fills the two `{...}` of a path about a version.
pub fn of_version(path: &str, vdisk: &model::Name, number: u32) -> String {
    fill(&fill(path, vdisk), number)
}

/// Fills the three `{...}` of a path about discarded bytes.
pub fn of_orphan(path: &str, vdisk: &model::Name, number: u32, epoch: u64) -> String {
    fill(&of_version(path, vdisk, number), epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_filled_where_its_brace_is() {
        assert_eq!(fill(VDISK_EXPORT, "win11"), "/v1/vdisks/win11/export");
        assert_eq!(fill(STATUS, "x"), STATUS);
        let vdisk = model::Name::new("win11").unwrap();
        assert_eq!(of_version(VERSION_SEAL, &vdisk, 3), "/v1/vdisks/win11/versions/3/seal");
    }
}
