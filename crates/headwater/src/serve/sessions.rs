//! The table of sessions: one device on this server, bound to one root for its whole life.
//!
//! A session is found by its token, which is secret: it is the NBD export name and part of the
//! boot URLs. Lists show the id, which is not. Time is handed in; sockets are elsewhere
//! (`services.rs` plugs the table into the NBD server, `boot_http.rs` into the boot endpoints).
//!
//! Nothing here trusts a MAC address: fetching somebody else's script opens another session and
//! never ends the one that runs.

use super::boot_steps::Step;
use super::reached::Reached;
use disk::BlockIo;
use model::{DiskSize, MacAddress, Name, Root, VersionNumber};
use protocol::plan::{BootPlan, BootStage, DeviceReport, DiskPlan, WriteCachePlan};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

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

/// The secret name of a session: 128 random bits in hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Token(String);

impl Token {
    /// Draws a token from the system's randomness.
    pub(crate) fn random() -> Self {
        Self(random_hex::<16>())
    }

    /// Takes a text from a URL or an export name; whether it names a session is for the table.
    pub(crate) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text that goes into URLs and the export name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tokens stay out of logs, also by accident.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

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

/// What a new session is bound to.
pub(crate) struct SessionSpec {
    pub(crate) holder: Holder,
    pub(crate) store: Name,
    pub(crate) vdisk: Name,
    pub(crate) version: VersionNumber,
    pub(crate) root: Root,
    pub(crate) size: DiskSize,
    pub(crate) write_cache: Option<WriteCachePlan>,
    pub(crate) disk: Arc<dyn BlockIo>,
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
    disk: Arc<dyn BlockIo>,
}

impl Session {
    /// Whether a connection is there, or came too lately to have been observed.
    fn is_connected(&self, now: SystemTime) -> bool {
        let lately = |asked| now.duration_since(asked).unwrap_or_default() < OBSERVED_WITHIN;
        self.info.connections > 0 || self.asked.is_some_and(lately)
    }
}

/// Why no session was opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// The table is full.
    #[error("this server holds {MAX_SESSIONS} sessions, its limit")]
    Full,
}

/// All sessions of this server.
#[derive(Default)]
pub(crate) struct Sessions {
    table: Mutex<HashMap<Token, Session>>,
}

impl Sessions {
    /// Opens a session and answers its token. `before` are the steps of the boot so far.
    pub(crate) fn open(
        &self,
        spec: SessionSpec,
        before: Vec<Step>,
        now: SystemTime,
    ) -> Result<Token, OpenError> {
        let mut table = self.lock();
        expire(&mut table, now);
        drop_oldest_waiting(&mut table, &spec.holder, now);
        if table.len() >= MAX_SESSIONS {
            return Err(OpenError::Full);
        }
        let token = Token::random();
        let info = SessionInfo {
            id: random_hex::<4>(),
            holder: spec.holder,
            store: spec.store,
            vdisk: spec.vdisk,
            version: spec.version,
            root: spec.root,
            size: spec.size,
            write_cache: spec.write_cache,
            opened: now,
            last_seen: now,
            connections: 0,
            peer: None,
            timeline: before.into_iter().map(|(label, at)| TimelineStep { label, at }).collect(),
            report: None,
        };
        table.insert(token.clone(), Session { info, asked: None, disk: spec.disk });
        Ok(token)
    }

    /// The session of a token.
    pub(crate) fn find(&self, token: &Token) -> Option<SessionInfo> {
        self.lock().get(token).map(|session| session.info.clone())
    }

    /// A connection asks for a token's disk. Whether it stays is heard by [`Sessions::observe`].
    pub(crate) fn disk(&self, token: &Token, now: SystemTime) -> Option<Attached> {
        let mut table = self.lock();
        let session = table.get_mut(token)?;
        session.info.last_seen = now;
        session.asked = Some(now);
        Some(Attached { info: session.info.clone(), disk: Arc::clone(&session.disk) })
    }

    /// Takes in which connections the NBD server has now: those of a token, and from where.
    pub(crate) fn observe(&self, connections: &[(Token, Option<SocketAddr>)], now: SystemTime) {
        let mut table = self.lock();
        table.values_mut().for_each(|session| session.info.connections = 0);
        for (token, peer) in connections {
            if let Some(session) = table.get_mut(token) {
                session.info.connections += 1;
                session.info.peer = *peer;
                session.info.last_seen = now;
            }
        }
        expire(&mut table, now);
    }

    /// Notes a step of the boot, once each label.
    pub(crate) fn step(&self, token: &Token, label: &'static str, now: SystemTime) {
        if let Some(session) = self.lock().get_mut(token) {
            session.info.last_seen = now;
            push_step(&mut session.info.timeline, label, now);
        }
    }

    /// Takes a device's report; answers whether the session exists.
    pub(crate) fn report(&self, token: &Token, report: DeviceReport, now: SystemTime) -> bool {
        let mut table = self.lock();
        let Some(session) = table.get_mut(token) else { return false };
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

    /// Ends the session of an id; answers its token, so that its connections can be closed.
    pub(crate) fn close(&self, id: &str) -> Option<Token> {
        let mut table = self.lock();
        let token =
            table.iter().find(|(_, session)| session.info.id == id).map(|(token, _)| token.clone())?;
        table.remove(&token);
        Some(token)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Session>> {
        self.table.lock().expect("no holder of this lock panics")
    }
}

/// What a new connection gets.
pub(crate) struct Attached {
    pub(crate) info: SessionInfo,
    pub(crate) disk: Arc<dyn BlockIo>,
}

/// The boot plan of a device's session; none for sessions that are not a device's.
pub(crate) fn boot_plan(
    info: &SessionInfo,
    token: &Token,
    server: &Name,
    reached: &Reached,
) -> Option<BootPlan> {
    let Holder::Device { name, mac } = &info.holder else { return None };
    Some(BootPlan {
        revision: 1,
        device: name.clone(),
        mac: *mac,
        vdisk: info.vdisk.clone(),
        version: info.version.0,
        root: info.root,
        size: info.size,
        servers: vec![protocol::plan::StreamServer { name: server.clone(), nbd: reached.nbd.to_string() }],
        export: token.as_str().to_owned(),
        disk: DiskPlan::Shared { write_cache: info.write_cache.clone()? },
        identity: None,
        report_urls: vec![format!("{}/boot/v1/report/{}", reached.http_base(), token.as_str())],
        report_interval_s: REPORT_INTERVAL_S,
    })
}

/// Seconds between a device's reports: fresh enough for a fill level, 400 a second at 4,000
/// devices.
const REPORT_INTERVAL_S: u32 = 10;

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

fn expire(table: &mut HashMap<Token, Session>, now: SystemTime) {
    table.retain(|_, session| {
        let idle = now.duration_since(session.info.last_seen).unwrap_or_default();
        session.is_connected(now) || idle < IDLE_LIFE
    });
}

fn drop_oldest_waiting(table: &mut HashMap<Token, Session>, holder: &Holder, now: SystemTime) {
    let Holder::Device { mac, .. } = holder else { return };
    let mut waiting: Vec<_> = table
        .iter()
        .filter(|(_, session)| !session.is_connected(now))
        .filter(|(_, session)| matches!(&session.info.holder, Holder::Device { mac: of, .. } if of == mac))
        .map(|(token, session)| (session.info.last_seen, token.clone()))
        .collect();
    waiting.sort_by_key(|(seen, _)| std::cmp::Reverse(*seen));
    for (_, token) in waiting.into_iter().skip(MAX_WAITING_PER_DEVICE - 1) {
        table.remove(&token);
    }
}

fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's randomness is available");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
