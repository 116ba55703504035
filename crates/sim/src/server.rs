//! What a server does by itself, around the rules and the replication.

use crate::Flaw;
use crate::commands::{Intent, server_name, vdisk};
use crate::disk::{CHUNKS, Disk};
use crate::network::SERVERS;
use farm::rules::draft;
use farm::rules::reading::Earlier;
use farm::{Epoch, FarmView, Reads, VersionState, roots_in_use, roots_kept};
use mesh::engine::{ChunkSet, Engine, Event, Options, Priority};
use model::{ChunkIndex, Root, VersionNumber};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A lease that a server believes to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The draft.
    pub number: VersionNumber,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether a device writes.
    pub device: bool,
    /// Whether the epoch is noted as dirty, so that writes need not ask.
    pub marked: bool,
}

/// A device that reads a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: u64,
    /// The version.
    pub number: VersionNumber,
    /// What it is bound to until it boots again.
    pub root: Root,
}

/// One server; `disk` is all that survives a crash.
#[derive(Debug)]
pub struct Server {
    /// Its place among the servers.
    pub at: usize,
    /// Whether it runs.
    pub up: bool,
    /// How often it has started.
    pub incarnation: u64,
    /// When it started: the engine's time begins there.
    pub started: Duration,
    /// Its disk.
    pub disk: Disk,
    /// Its replication.
    pub engine: Engine,
    /// When the engine wants to be woken.
    pub wake: Duration,
    /// The records as it last saw them.
    pub view: Arc<FarmView>,
    /// The lease that it believes to hold.
    pub lease: Option<Held>,
    /// The transaction whose answer it waits for.
    pub waits_for: Option<(u64, Intent)>,
    /// The incarnation of each peer that it hears, and when it last did.
    pub hears: [Option<(u64, Duration)>; SERVERS],
    /// The devices that read from it.
    pub sessions: Vec<Session>,
    /// A device whose version the record of this server does not have yet.
    pub waiting: Option<Session>,
    /// Whether every change of that record was answered.
    pub earlier: Earlier,
}

impl Server {
    /// A server that has just started, with what its disk has.
    pub fn start(at: usize, disk: Disk, incarnation: u64, now: Duration) -> Self {
        let options = Options { silence: Duration::from_secs(2), ..Options::default() };
        Self {
            at,
            up: true,
            incarnation,
            started: now,
            disk,
            engine: Engine::new(server_name(at), options),
            wake: Duration::MAX,
            view: Arc::default(),
            lease: None,
            waits_for: None,
            hears: [None; SERVERS],
            sessions: Vec::new(),
            waiting: None,
            earlier: Earlier::MayCome,
        }
    }

    /// Takes in newer records; says what the replication is to be told.
    pub fn see(&mut self, view: Arc<FarmView>) -> Vec<Event> {
        if view.revision > self.view.revision {
            self.view = view;
        }
        if self.lease.is_some_and(|held| self.draft_epoch(held.number) != Some(held.epoch)) {
            self.lease = None;
        }
        let needed = self.needed();
        let unwanted: Vec<Root> = self.engine.wanted().filter(|root| !needed.contains(root)).collect();
        let wanted: BTreeSet<Root> = self.engine.wanted().collect();
        let mut events: Vec<Event> = unwanted.into_iter().map(|root| Event::Unwanted { root }).collect();
        for root in needed.difference(&wanted).copied() {
            self.disk.begin(root);
            let missing = self.disk.missing(root).into_iter().map(ChunkIndex);
            let missing = ChunkSet::of(CHUNKS, missing);
            if !missing.is_empty() {
                events.push(Event::Wanted { root, missing, priority: Priority::Bulk });
            }
        }
        events
    }

    fn draft_epoch(&self, number: VersionNumber) -> Option<Epoch> {
        self.view.draft(&vdisk(), number).map(|draft| draft.epoch)
    }

    /// The contents that this server should have.
    fn needed(&self) -> BTreeSet<Root> {
        let sessions = self.sessions.iter().map(|session| session.root);
        roots_in_use(&self.view).into_iter().chain(sessions).collect()
    }

    /// The newest draft.
    pub fn newest_draft(&self) -> Option<VersionNumber> {
        self.view.drafts.keys().map(|(_, number)| *number).max()
    }

    /// The newest version, sealed or not.
    pub fn newest_version(&self) -> Option<VersionNumber> {
        self.view.versions.keys().map(|(_, number)| *number).max()
    }

    /// A sealed version that is not in production.
    pub fn spare_version(&self) -> Option<VersionNumber> {
        let production = self.view.vdisks.get(&vdisk())?.production;
        let spare = |number: &VersionNumber| Some(*number) != production;
        let sealed = self.view.versions.values().filter(|version| version.state == VersionState::Sealed);
        sealed.map(|version| version.number).find(spare)
    }

    /// How this server would take the lease of a draft.
    pub fn attach(&self, number: VersionNumber, device: bool) -> Option<Intent> {
        let draft = self.view.draft(&vdisk(), number)?;
        let resumes = draft::resumes(draft, &server_name(self.at));
        let checkpoint = draft.checkpoint;
        if !self.disk.is_whole(checkpoint) || resumes && !self.disk.drafts.contains_key(&number) {
            return None;
        }
        Some(Intent::Attach { number, device, resumes, checkpoint, epoch: draft.epoch.next() })
    }

    /// Whether a write may be executed now (rule h): not while a checkpoint or seal is on its way.
    pub fn may_write(&self) -> bool {
        let gate = matches!(self.waits_for, Some((_, Intent::Checkpoint(..) | Intent::Seal(..))));
        self.lease.is_some_and(|held| held.device && held.marked) && !gate
    }

    /// A content on the disk that nothing needs: neither a record nor anything on this server.
    pub fn prunable(&self, flaw: Flaw) -> Option<Root> {
        let in_use = match flaw {
            Flaw::OthersNotAsked | Flaw::PruneWithoutSessions => roots_in_use(&self.view),
            _ => roots_kept(&self.view),
        };
        let read =
            |root: Root| flaw != Flaw::PruneWithoutSessions && self.sessions.iter().any(|s| s.root == root);
        let below = |root: Root| self.disk.drafts.values().any(|files| files.base == root);
        self.disk.roots().find(|root| !in_use.contains(root) && !read(*root) && !below(*root))
    }

    /// What its sessions read, and the one that waits.
    pub fn reads(&self) -> Vec<Reads> {
        let mut reads: Vec<Reads> = Vec::new();
        for session in self.sessions.iter().chain(&self.waiting) {
            let (version, root) = (session.number, session.root);
            let of = Reads { vdisk: vdisk(), version, root, store: crate::commands::store(), sessions: 0 };
            match reads.iter_mut().find(|known| known.is_of(&of)) {
                Some(known) => known.sessions += 1,
                None => reads.push(Reads { sessions: 1, ..of }),
            }
        }
        reads.sort();
        reads
    }

    /// Whether the records have a version as read here, and keep it so.
    pub fn is_told(&self, number: VersionNumber, root: Root) -> bool {
        let on_its_way = matches!(self.waits_for, Some((_, Intent::Read(..))));
        let record = self.view.readings.get(&server_name(self.at));
        let is_recorded =
            |record: &farm::Reading| record.reads.iter().any(|r| (r.version, r.root) == (number, root));
        self.earlier == Earlier::Answered && !on_its_way && record.is_some_and(|r| is_recorded(r))
    }

    /// The contents that are whole on the disk.
    pub fn whole(&self) -> BTreeSet<Root> {
        self.disk.roots().filter(|root| self.disk.is_whole(*root)).collect()
    }
}
