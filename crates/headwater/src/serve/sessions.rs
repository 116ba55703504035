//! The table of sessions: one device on this server, bound to one root for its whole life.
//!
//! A session is found by its token, which is secret: it is the NBD export name and part of the
//! boot URLs. Lists show the id, which is not. Time is handed in; sockets are elsewhere
//! (`services.rs` plugs the table into the NBD server, `boot_http.rs` into the boot endpoints).
//!
//! Sessions outlive the server (`ledger.rs`), except those whose writes are in its RAM.
//!
//! Nothing here trusts a MAC address: fetching somebody else's script opens another session and
//! never ends the one that runs.

mod ledger;
mod plan;
mod token;

use super::boot_steps::Step;
use super::farm::FarmError;
use disk::BlockIo;
use model::{DiskSize, MacAddress, Name, Root, VersionNumber};
use protocol::plan::{BootStage, DeviceReport, WriteCachePlan};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

pub(crate) use ledger::{Ledger, SessionRecord};
pub(crate) use plan::boot_plan;
pub(crate) use token::{Token, TokenHash};

/// The most sessions a server holds: two for each of PVS's 4,095 devices a server, rounded up.
const MAX_SESSIONS: usize = 8192;
/// The most sessions of one device that have no connection: a loop of PXE retries stays bounded.
const MAX_WAITING_PER_DEVICE: usize = 4;
/// A session without connection or report for this long is gone: longer than a slow kernel and
/// initrd download over TFTP-class links, by eye.
const IDLE_LIFE: Duration = Duration::from_secs(600);
/// A connection that asked for a disk is observed within this, if it stays: several turns of the
/// observer, which looks every two seconds.
const OBSERVED_WITHIN: Duration = Duration::from_secs(10);
/// The most steps a timeline records.
const MAX_TIMELINE: usize = 32;

/// Who a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A diskless machine.
    Device {
        /// Its name.
        name: Name,
        /// Its address.
        mac: MacAddress,
    },
    /// An admin or a program that reads a version over NBD.
    Admin,
}

/// Where a session's writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum SessionMode {
    /// Nowhere, as far as we know: the disk is read-only.
    Shared,
    /// Into this server's RAM; gone with the server.
    Scratch,
    /// Into the version itself, a draft.
    Draft {
        /// The epoch in which this session may write; none before it was attached.
        epoch: Option<u64>,
    },
}

/// What a new session is bound to.
pub(crate) struct SessionSpec {
    pub(crate) holder: Holder,
    pub(crate) store: Name,
    pub(crate) vdisk: Name,
    pub(crate) version: VersionNumber,
    pub(crate) root: Root,
    pub(crate) size: DiskSize,
    pub(crate) write_cache: Option<WriteCachePlan>,
    pub(crate) mode: SessionMode,
    /// None where it comes later, by [`Sessions::attach`].
    pub(crate) disk: Option<Arc<dyn BlockIo>>,
}

/// One step of a boot: what happened and when.
#[derive(Clone, Debug)]
pub(crate) struct TimelineStep {
    pub(crate) label: &'static str,
    pub(crate) at: SystemTime,
}

/// What people may see of a session: everything but its token and disk.
#[derive(Clone, Debug)]
pub(crate) struct SessionInfo {
    pub(crate) id: String,
    pub(crate) holder: Holder,
    pub(crate) store: Name,
    pub(crate) vdisk: Name,
    pub(crate) version: VersionNumber,
    pub(crate) root: Root,
    pub(crate) size: DiskSize,
    pub(crate) write_cache: Option<WriteCachePlan>,
    pub(crate) mode: SessionMode,
    pub(crate) opened: SystemTime,
    pub(crate) last_seen: SystemTime,
    pub(crate) connections: u32,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) timeline: Vec<TimelineStep>,
    pub(crate) report: Option<DeviceReport>,
}

struct Session {
    info: SessionInfo,
    /// When a connection last asked for the disk: it may be there before it is observed.
    asked: Option<SystemTime>,
    disk: Option<Arc<dyn BlockIo>>,
    /// As soon as somebody who has it came: only its hash outlives the server.
    token: Option<Token>,
}

impl Session {
    /// Whether a connection is there, or came too lately to have been observed.
    fn is_connected(&self, now: SystemTime) -> bool {
        let lately = |asked| now.duration_since(asked).unwrap_or_default() < OBSERVED_WITHIN;
        self.info.connections > 0 || self.asked.is_some_and(lately)
    }

    /// Whether it may write to a draft: then it ends by [`Sessions::close`] only, with the draft.
    fn holds_draft(&self) -> bool {
        matches!(self.info.mode, SessionMode::Draft { epoch: Some(_) })
    }
}

/// Why no session was opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The table is full.
    #[error("this server holds {MAX_SESSIONS} sessions, its limit")]
    Full,
    /// It could not be made to outlive the server.
    #[error("the session's record cannot be written: {0}\nhint: look at the state directory's disk")]
    Record(#[from] std::io::Error),
    /// The farm was not told what it reads.
    #[error("the farm could not be told what the session reads: {0}")]
    Untold(#[from] FarmError),
}

/// A session that has ended.
pub(crate) struct Closed {
    pub(crate) info: SessionInfo,
    /// The name of its connections; none where it never had one since the server's start.
    pub(crate) token: Option<Token>,
}

/// All sessions of this server.
#[derive(Default)]
pub(crate) struct Sessions {
    table: Mutex<HashMap<TokenHash, Session>>,
    ledger: Option<Ledger>,
}

impl Sessions {
    /// A table whose sessions are kept in `ledger`.
    pub(crate) fn kept_in(ledger: Ledger) -> Self {
        Self { table: Mutex::default(), ledger: Some(ledger) }
    }

    /// The records of the sessions that were open when the server ended.
    pub(crate) fn kept(&self) -> Vec<(TokenHash, SessionRecord)> {
        self.ledger.as_ref().map(Ledger::load).unwrap_or_default()
    }

    /// Opens a session and answers its token. `before` are the steps of the boot so far. Waits for
    /// the disk.
    pub(crate) fn open(
        &self,
        spec: SessionSpec,
        before: Vec<Step>,
        now: SystemTime,
    ) -> Result<Token, OpenError> {
        let token = Token::random();
        let hash = token.hash();
        let SessionSpec { holder, store, vdisk, version, root, size, write_cache, mode, disk } = spec;
        let timeline = before.into_iter().map(|(label, at)| TimelineStep { label, at }).collect();
        let id = token::random_hex::<4>();
        let (opened, last_seen, connections, peer, report) = (now, now, 0, None, None);
        let info = SessionInfo {
            id,
            holder,
            store,
            vdisk,
            version,
            root,
            size,
            write_cache,
            mode,
            opened,
            last_seen,
            connections,
            peer,
            timeline,
            report,
        };
        let record = SessionRecord::of(&info);
        {
            let mut table = self.lock();
            self.expire(&mut table, now);
            self.drop_oldest_waiting(&mut table, &info.holder, now);
            if table.len() >= MAX_SESSIONS {
                return Err(OpenError::Full);
            }
            let session = Session { info, asked: None, disk, token: Some(token.clone()) };
            table.insert(hash, session);
        }
        match self.keep(hash, &record) {
            Ok(()) => Ok(token),
            Err(error) => {
                self.lock().remove(&hash);
                Err(error.into())
            }
        }
    }

    /// Takes up a session of the server's last run.
    pub(crate) fn restore(
        &self,
        hash: TokenHash,
        record: SessionRecord,
        disk: Option<Arc<dyn BlockIo>>,
        now: SystemTime,
    ) {
        let session = Session { info: record.info(now), asked: None, disk, token: None };
        self.lock().insert(hash, session);
    }

    /// Forgets a session of the server's last run that cannot be taken up.
    pub(crate) fn forget(&self, hash: TokenHash) {
        self.release(hash);
    }

    /// Gives a session the draft that it may write to. Waits for the disk.
    pub(crate) fn attach(
        &self,
        hash: TokenHash,
        epoch: u64,
        disk: Arc<dyn BlockIo>,
    ) -> Result<(), std::io::Error> {
        let record = {
            let mut table = self.lock();
            let Some(session) = table.get_mut(&hash) else { return Ok(()) };
            session.info.mode = SessionMode::Draft { epoch: Some(epoch) };
            session.disk = Some(disk);
            SessionRecord::of(&session.info)
        };
        self.keep(hash, &record)
    }

    /// Takes the draft away from a session whose device is done with it. Waits for the disk.
    pub(crate) fn released(&self, hash: TokenHash) {
        let record = {
            let mut table = self.lock();
            let Some(session) = table.get_mut(&hash) else { return };
            session.info.mode = SessionMode::Draft { epoch: None };
            session.disk = None;
            SessionRecord::of(&session.info)
        };
        if let Err(error) = self.keep(hash, &record) {
            tracing::warn!(%error, "a session's record is out of date until the next start");
        }
    }

    /// The token's hash, where it names a session.
    pub(crate) fn knows(&self, token: &Token) -> bool {
        self.lock().contains_key(&token.hash())
    }

    /// The sessions that hold drafts, with when they were last connected or none where they are.
    pub(crate) fn draft_holders(&self, now: SystemTime) -> Vec<(TokenHash, SessionInfo, Option<SystemTime>)> {
        let table = self.lock();
        let holders = table.iter().filter(|(_, session)| session.holds_draft());
        let idle = |session: &Session| (!session.is_connected(now)).then_some(session.info.last_seen);
        holders.map(|(hash, session)| (*hash, session.info.clone(), idle(session))).collect()
    }

    /// The session of a token.
    pub(crate) fn find(&self, token: &Token) -> Option<SessionInfo> {
        self.lock().get(&token.hash()).map(|session| session.info.clone())
    }

    /// A connection asks for a token's disk. Whether it stays is heard by [`Sessions::observe`].
    pub(crate) fn disk(&self, token: &Token, now: SystemTime) -> Option<Attached> {
        let mut table = self.lock();
        let session = table.get_mut(&token.hash())?;
        session.info.last_seen = now;
        let disk = Arc::clone(session.disk.as_ref()?);
        session.asked = Some(now);
        session.token = Some(token.clone());
        Some(Attached { info: session.info.clone(), disk })
    }

    /// Takes in which connections the NBD server has now: those of a token, and from where.
    pub(crate) fn observe(&self, connections: &[(Token, Option<SocketAddr>)], now: SystemTime) {
        let mut table = self.lock();
        table.values_mut().for_each(|session| session.info.connections = 0);
        for (token, peer) in connections {
            if let Some(session) = table.get_mut(&token.hash()) {
                session.info.connections += 1;
                session.info.peer = *peer;
                session.info.last_seen = now;
            }
        }
        self.expire(&mut table, now);
    }

    /// Notes a step of the boot, once each label.
    pub(crate) fn step(&self, token: &Token, label: &'static str, now: SystemTime) {
        if let Some(session) = self.lock().get_mut(&token.hash()) {
            session.info.last_seen = now;
            push_step(&mut session.info.timeline, label, now);
        }
    }

    /// Takes a device's report; answers whether the session exists.
    pub(crate) fn report(&self, token: &Token, report: DeviceReport, now: SystemTime) -> bool {
        let mut table = self.lock();
        let Some(session) = table.get_mut(&token.hash()) else { return false };
        session.info.last_seen = now;
        // A report may come after the device has passed several stages.
        for stage in STAGES.into_iter().filter(|stage| *stage <= report.stage) {
            push_step(&mut session.info.timeline, stage_label(stage), now);
        }
        session.info.report = Some(report);
        true
    }

    /// Every session, oldest first.
    pub(crate) fn list(&self) -> Vec<SessionInfo> {
        let table = self.lock();
        let mut all: Vec<_> = table.values().map(|session| session.info.clone()).collect();
        all.sort_by_key(|info| info.opened);
        all
    }

    /// What the sessions read, the store that it is in, and how many of them do. Those that write to
    /// a draft are not among them: the draft itself says what it needs.
    pub(crate) fn reads(&self) -> BTreeMap<(Name, VersionNumber, Root), (Name, u32)> {
        let mut reads = BTreeMap::new();
        for Session { info, .. } in self.lock().values().filter(|session| !session.holds_draft()) {
            let bound = (info.vdisk.clone(), info.version, info.root);
            reads.entry(bound).or_insert_with(|| (info.store.clone(), 0)).1 += 1;
        }
        reads
    }

    /// The session of an id, by its hash.
    pub(crate) fn by_id(&self, id: &str) -> Option<TokenHash> {
        self.lock().iter().find(|(_, session)| session.info.id == id).map(|(hash, _)| *hash)
    }

    /// Ends a session: no connection finds it any more. Those that are open are the caller's to
    /// close, and so is the draft that it may hold.
    pub(crate) fn close(&self, hash: TokenHash) -> Option<Closed> {
        let Session { info, token, .. } = self.lock().remove(&hash)?;
        self.release(hash);
        Some(Closed { info, token })
    }

    fn keep(&self, hash: TokenHash, record: &SessionRecord) -> std::io::Result<()> {
        match &self.ledger {
            Some(ledger) if record.outlives_the_server() => ledger.write(hash, record),
            _ => Ok(()),
        }
    }

    fn release(&self, hash: TokenHash) {
        self.ledger.iter().for_each(|ledger| ledger.remove(hash));
    }

    fn expire(&self, table: &mut HashMap<TokenHash, Session>, now: SystemTime) {
        table.retain(|hash, session| {
            let idle = now.duration_since(session.info.last_seen).unwrap_or_default();
            let stays = session.holds_draft() || session.is_connected(now) || idle < IDLE_LIFE;
            if !stays {
                self.release(*hash);
            }
            stays
        });
    }

    fn drop_oldest_waiting(&self, table: &mut HashMap<TokenHash, Session>, holder: &Holder, now: SystemTime) {
        let Holder::Device { mac, .. } = holder else { return };
        let of_it =
            |session: &Session| matches!(&session.info.holder, Holder::Device { mac: of, .. } if of == mac);
        let mut waiting: Vec<_> = table
            .iter()
            .filter(|(_, session)| !session.is_connected(now) && !session.holds_draft() && of_it(session))
            .map(|(hash, session)| (session.info.last_seen, *hash))
            .collect();
        waiting.sort_by_key(|(seen, _)| std::cmp::Reverse(*seen));
        for (_, hash) in waiting.into_iter().skip(MAX_WAITING_PER_DEVICE - 1) {
            table.remove(&hash);
            self.release(hash);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenHash, Session>> {
        self.table.lock().expect("no holder of this lock panics")
    }
}

/// What a new connection gets.
pub(crate) struct Attached {
    pub(crate) info: SessionInfo,
    pub(crate) disk: Arc<dyn BlockIo>,
}

/// The stages of a boot, in order.
const STAGES: [BootStage; 6] = [
    BootStage::AgentStarted,
    BootStage::DiskAttached,
    BootStage::FirstRead,
    BootStage::Running,
    BootStage::Stopping,
    BootStage::Stopped,
];

fn stage_label(stage: BootStage) -> &'static str {
    match stage {
        BootStage::AgentStarted => "agent started",
        BootStage::DiskAttached => "disk attached",
        BootStage::FirstRead => "first read",
        BootStage::Running => "running",
        BootStage::Stopping => "stopping",
        BootStage::Stopped => "stopped",
    }
}

fn push_step(timeline: &mut Vec<TimelineStep>, label: &'static str, at: SystemTime) {
    let known = timeline.iter().any(|step| step.label == label);
    if !known && timeline.len() < MAX_TIMELINE {
        timeline.push(TimelineStep { label, at });
    }
}

#[cfg(test)]
mod tests;
