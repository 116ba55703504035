//! What people and devices do, and what goes wrong: one of these at a time, by chance.

use super::World;
use crate::check::Broken;
use crate::commands::{Intent, vdisk};
use crate::disk::{CHUNKS, root_of};
use crate::network::{SERVERS, name};
use crate::server::{Held, Session};
use mesh::engine::{Event, Slot};
use model::ChunkIndex;

impl World {
    pub(super) fn act(&mut self) -> Result<(), Broken> {
        if self.random.once_in(12) {
            self.fault();
            return Ok(());
        }
        let at = self.random.below(SERVERS as u64) as usize;
        if !self.servers[at].up {
            return Ok(());
        }
        match self.random.below(10) {
            0 => self.boot(at),
            1..4 => self.read(at),
            4 => {
                self.servers[at].sessions.pop();
                Ok(())
            }
            5 => {
                self.administer(at);
                Ok(())
            }
            _ => self.maintain(),
        }
    }

    fn fault(&mut self) {
        match self.random.below(7) {
            0 => {
                let at = self.random.below(SERVERS as u64) as usize;
                if self.servers[at].up {
                    self.crash(at);
                }
            }
            1 | 2 => {
                let what = self.network.cut(&mut self.random);
                self.note(|| what);
            }
            3 | 4 => {
                let at = self.random.below(SERVERS as u64) as usize;
                let slot = if self.random.once_in(3) { Slot::Open } else { Slot::Closed };
                self.note(|| format!("the schedule of {} says {slot:?}", name(at)));
                self.tell(at, Event::Slot(slot));
            }
            _ => {
                self.network.heal();
                self.note(|| "the network is whole again".into());
            }
        }
    }

    fn boot(&mut self, at: usize) -> Result<(), Broken> {
        self.refresh(at);
        let server = &self.servers[at];
        let Some(version) = server.view.production_of(&vdisk()) else { return Ok(()) };
        let (number, root) = (version.number, version.root);
        self.ledger.production(&server.view, &vdisk())?;
        self.next += 1;
        let session = Session { id: self.next, number, root };
        if self.servers[at].is_told(number, root) {
            self.begin(at, session);
        } else if self.servers[at].waits_for.is_none() {
            self.servers[at].waiting = Some(session);
            let intent = Intent::Read(self.servers[at].reads(), self.servers[at].earlier);
            if !self.try_commit(at, intent) {
                self.servers[at].waiting = None;
            }
        }
        Ok(())
    }

    /// From now on a device reads from this server.
    pub(super) fn begin(&mut self, at: usize, session: Session) {
        self.note(|| format!("a device boots version {} from {}", session.number, name(at)));
        self.servers[at].sessions.push(session);
        self.refresh(at);
    }

    fn read(&mut self, at: usize) -> Result<(), Broken> {
        let sessions = self.servers[at].sessions.clone();
        let Some(session) = self.random.pick(&sessions) else { return Ok(()) };
        let (root, chunk) = (session.root, self.random.below(CHUNKS.into()) as u32);
        self.look_at_sources(root)?;
        if !self.servers[at].disk.knows(root) {
            let what = format!("{} deleted {}, which a device reads from it", name(at), root.short());
            return Err(Broken::Deleted(what));
        }
        match self.servers[at].disk.read(root, chunk) {
            Some(value) => self.ledger.read(at, root, chunk, value),
            None => {
                self.tell(at, Event::NeedNow { root, chunks: vec![ChunkIndex(chunk)] });
                Ok(())
            }
        }
    }

    fn administer(&mut self, at: usize) {
        let server = &self.servers[at];
        if server.waits_for.is_some() {
            return;
        }
        let intent = match self.random.below(6) {
            0 => server.newest_draft().map(Intent::Release),
            1 | 2 => server.newest_version().map(Intent::Promote),
            3 | 4 => server.newest_draft().is_none().then_some(Intent::Create),
            _ => server.spare_version().map(Intent::Delete),
        };
        if let Some(intent) = intent {
            self.commit(at, intent);
        }
    }

    /// The maintenance machine, or who seals after it: mostly where it was last.
    fn maintain(&mut self) -> Result<(), Broken> {
        let holding = (0..SERVERS).find(|at| self.servers[*at].lease.is_some());
        let any = self.random.below(SERVERS as u64) as usize;
        let at = holding.filter(|_| !self.random.once_in(8)).unwrap_or(any);
        if !self.servers[at].up || self.servers[at].waits_for.is_some() {
            return Ok(());
        }
        let Some(held) = self.servers[at].lease else {
            let device = !self.random.once_in(3);
            let draft = self.servers[at].newest_draft();
            if let Some(intent) = draft.and_then(|number| self.servers[at].attach(number, device)) {
                self.commit(at, intent);
            }
            return Ok(());
        };
        match self.random.below(10) {
            _ if held.device && !held.marked => self.commit(at, Intent::Mark(held.number, held.epoch)),
            0..7 if held.device => self.write(at, held),
            7 => self.commit(at, Intent::Detach(held.number, held.epoch)),
            8 if held.device => return self.cut(at, held, Intent::Checkpoint),
            _ if !held.device => return self.cut(at, held, Intent::Seal),
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, at: usize, held: Held) {
        if !self.servers[at].may_write() {
            return;
        }
        let Some(files) = self.servers[at].disk.drafts.get_mut(&held.number) else { return };
        for _ in 0..=self.random.below(3) {
            self.next += 1;
            let (chunk, value) = (self.random.below(CHUNKS.into()) as u32, self.next);
            files.write(chunk, value);
            self.ledger.wrote(held.number, chunk, value);
        }
        if !self.random.once_in(3) {
            let safe = files.flush();
            self.ledger.acknowledged(held.number, &safe);
            let (number, epoch) = (held.number, held.epoch);
            self.note(|| {
                format!("{} acknowledged {} writes of version {number}, epoch {epoch}", name(at), safe.len())
            });
        }
    }

    /// Cuts the draft's content as of now, makes it durable, and commits it.
    fn cut(
        &mut self,
        at: usize,
        held: Held,
        intent: fn(model::VersionNumber, farm::Epoch, model::Root) -> Intent,
    ) -> Result<(), Broken> {
        let Some(files) = self.servers[at].disk.drafts.get_mut(&held.number) else { return Ok(()) };
        files.flush();
        let bytes = files.bytes();
        let root = root_of(&bytes);
        self.ledger.names(root, &bytes)?;
        self.servers[at].disk.put_whole(root, &bytes);
        self.commit(at, intent(held.number, held.epoch, root));
        Ok(())
    }
}
