//! What servers do with messages and with the answers of the database, and by themselves.

use super::{ANSWER, DEAF, Happening, Sent, World};
use crate::check::Broken;
use crate::commands::{Intent, server_name, vdisk};
use crate::database::committed;
use crate::disk::{CHUNKS, Files};
use crate::network::{Message, SERVERS, name};
use crate::server::Held;
use farm::Change;
use farm::rules::reading::Earlier;
use mesh::engine::Event;
use model::{CHUNK_SIZE, ChunkIndex, Root};
use std::sync::Arc;
use std::time::Duration;

impl World {
    pub(super) fn deliver(&mut self, from: usize, to: usize, message: Message) {
        match message {
            Message::Alive(has) => self.heard(from, to, has),
            Message::Ask { request, root, chunks } => {
                let disk = &self.servers[to].disk;
                let present = disk.present(root);
                let (there, not): (Vec<_>, Vec<_>) = chunks.into_iter().partition(|c| present.contains(&c.0));
                for chunk in there {
                    let value = self.servers[to].disk.read(root, chunk.0).expect("it is present");
                    self.send(to, from, Message::Chunk { root, chunk, value });
                }
                if !not.is_empty() {
                    self.send(to, from, Message::NotThere { request, chunks: not });
                }
            }
            Message::Chunk { root, chunk, value } => self.chunk_came(from, to, root, chunk, value),
            Message::NotThere { request, chunks } => self.tell(to, Event::NotThere { request, chunks }),
        }
    }

    fn heard(&mut self, from: usize, to: usize, has: Vec<(Root, Vec<u32>)>) {
        let (peer, incarnation) = (server_name(from), self.servers[from].incarnation);
        let before = self.servers[to].hears[from].replace((incarnation, self.now));
        if before.is_some_and(|(known, _)| known != incarnation) {
            self.tell(to, Event::PeerDown { peer: peer.clone() });
        }
        if before.is_none_or(|(known, _)| known != incarnation) {
            self.tell(to, Event::PeerUp { peer: peer.clone() });
        }
        for (root, chunks) in has {
            let peer = peer.clone();
            if chunks.len() == CHUNKS as usize {
                self.tell(to, Event::HasAll { peer, root });
                continue;
            }
            let mut bits = vec![0; CHUNKS.div_ceil(8) as usize];
            chunks.iter().for_each(|chunk| bits[*chunk as usize / 8] |= 1 << (chunk % 8));
            self.tell(to, Event::HasPart { peer, root, first: ChunkIndex(0), bits });
        }
    }

    fn chunk_came(&mut self, from: usize, to: usize, root: Root, chunk: ChunkIndex, value: u64) {
        if !self.servers[to].disk.knows(root) {
            return;
        }
        if self.ledger.bytes(root)[chunk.0 as usize] != value {
            self.note(|| format!("{} sent wrong bytes of {} to {}", name(from), root.short(), name(to)));
            return self.tell(to, Event::Wrong { root, peer: server_name(from) });
        }
        self.outcome.chunks += 1;
        self.servers[to].disk.put(root, chunk.0, value, self.flaw);
        self.tell(to, Event::Arrived { root, chunk, sent_bytes: CHUNK_SIZE });
    }

    /// What a server does ten times a second.
    pub(super) fn beat(&mut self, at: usize, count: u64) {
        match count % 2 {
            0 => self.servers[at].disk.sync_data(),
            _ => self.servers[at].disk.call_present(),
        }
        if count.is_multiple_of(5) {
            let disk = &self.servers[at].disk;
            let has: Vec<_> = disk.roots().map(|root| (root, disk.present(root))).collect();
            for to in (0..SERVERS).filter(|to| *to != at) {
                self.send(at, to, Message::Alive(has.clone()));
            }
        }
        for peer in 0..SERVERS {
            if self.servers[at].hears[peer].is_some_and(|(_, heard)| self.now - heard > DEAF) {
                self.servers[at].hears[peer] = None;
                self.note(|| format!("{} does not hear {} any more", name(at), name(peer)));
                self.tell(at, Event::PeerDown { peer: server_name(peer) });
            }
        }
        if self.random.once_in(6) {
            self.refresh(at);
        }
        self.tidy_up(at);
    }

    /// The server gets the records as they are now, if it can reach them.
    pub(super) fn refresh(&mut self, at: usize) {
        if self.network.database_delay(at, &mut self.random).is_some() {
            let view = Arc::clone(&self.database);
            let held = self.servers[at].lease;
            let events = self.servers[at].see(view);
            if held.is_some() && self.servers[at].lease.is_none() {
                self.note(|| format!("{} learns that its epoch has passed", name(at)));
            }
            events.into_iter().for_each(|event| self.tell(at, event));
        }
    }

    /// Reports what is whole, and prunes what nothing needs.
    fn tidy_up(&mut self, at: usize) {
        let server = &self.servers[at];
        if server.waits_for.is_some() || server.view.revision == 0 {
            return;
        }
        if self.random.once_in(4) && self.tell_what_is_read(at) {
            return;
        }
        let server = &self.servers[at];
        if let Some(root) = server.prunable(self.flaw).filter(|_| self.random.once_in(4)) {
            self.commit(at, Intent::Forget(root));
            return;
        }
        let report = Intent::Report(self.servers[at].whole());
        if report.decide(&self.servers[at].view, at, &[], self.flaw).is_some() {
            self.commit(at, report);
        }
    }

    /// Brings the record of what is read here in step; whether there was anything to do.
    fn tell_what_is_read(&mut self, at: usize) -> bool {
        let server = &self.servers[at];
        let intent = Intent::Read(server.reads(), server.earlier);
        self.try_commit(at, intent)
    }

    /// Decides, and sends the transaction to the database.
    pub(super) fn commit(&mut self, at: usize, intent: Intent) {
        self.try_commit(at, intent);
    }

    /// The same; false where the rule has nothing to say.
    pub(super) fn try_commit(&mut self, at: usize, intent: Intent) -> bool {
        let readers = match intent {
            Intent::Delete(number) if self.flaw != crate::Flaw::PruneWithoutSessions => {
                self.readers(at, number)
            }
            _ => Vec::new(),
        };
        let Some(change) = intent.decide(&self.servers[at].view, at, &readers, self.flaw) else {
            return false;
        };
        if matches!(intent, Intent::Read(..)) {
            self.servers[at].earlier = Earlier::MayCome;
        }
        self.next += 1;
        let (id, incarnation) = (self.next, self.servers[at].incarnation);
        let sent = Sent { server: at, incarnation, id, intent: intent.clone() };
        self.servers[at].waits_for = Some((id, intent));
        self.after(ANSWER, Happening::GiveUp(sent.clone()));
        if let Some(delay) = self.network.database_delay(at, &mut self.random) {
            self.after(delay, Happening::AtDatabase { sent, change });
        }
        true
    }

    /// The sessions of one server that read a version: it knows no others.
    fn readers(&self, at: usize, number: model::VersionNumber) -> Vec<String> {
        let sessions = self.servers[at].sessions.iter();
        sessions.filter(|session| session.number == number).map(|session| session.id.to_string()).collect()
    }

    pub(super) fn at_database(&mut self, sent: Sent, change: &Change) -> Result<(), Broken> {
        let after = committed(&self.database, change);
        let is_committed = after.is_some();
        if let Some(after) = after {
            self.database = Arc::new(after);
            self.note(|| format!("{} committed: {}", name(sent.server), describe(&sent.intent)));
            self.is_true_now(&sent.intent)?;
        } else {
            self.note(|| format!("{} was too late: {}", name(sent.server), describe(&sent.intent)));
        }
        if let Some(delay) = self.network.database_delay(sent.server, &mut self.random) {
            self.after(delay, Happening::Answer { sent, committed: is_committed });
        }
        Ok(())
    }

    /// What has just been committed is compared with what devices were told.
    fn is_true_now(&mut self, intent: &Intent) -> Result<(), Broken> {
        match intent {
            Intent::Checkpoint(number, _, root) => self.ledger.holds_all(*number, *root)?,
            Intent::Seal(number, _, root) => {
                self.outcome.sealed += 1;
                self.ledger.sealed(*number, *root)?;
            }
            Intent::Promote(_) => self.outcome.promoted += 1,
            Intent::Delete(_) => self.outcome.deleted += 1,
            _ => {}
        }
        self.ledger.production(&self.database, &vdisk())?;
        self.look_at_copies()
    }

    pub(super) fn answered(&mut self, sent: Sent, committed: bool) -> Result<(), Broken> {
        let at = sent.server;
        let waits = self.servers[at].waits_for.as_ref().is_some_and(|(id, _)| *id == sent.id);
        if !self.lives(at, sent.incarnation) || !waits {
            return Ok(());
        }
        self.servers[at].waits_for = None;
        let waiting = match sent.intent {
            Intent::Read(..) => self.servers[at].waiting.take(),
            _ => None,
        };
        if committed {
            self.go_on(at, sent.intent)?;
            if let Some(session) = waiting {
                self.begin(at, session);
            }
        }
        self.refresh(at);
        Ok(())
    }

    /// What the server does once it knows that its transaction was committed.
    fn go_on(&mut self, at: usize, intent: Intent) -> Result<(), Broken> {
        let server = &mut self.servers[at];
        match intent {
            Intent::Attach { number, device, resumes, checkpoint, epoch } => {
                if !resumes {
                    let files = Files::above(checkpoint, self.ledger.bytes(checkpoint).clone());
                    server.disk.drafts.insert(number, files);
                }
                server.lease = Some(Held { number, epoch, device, marked: false });
            }
            Intent::Mark(_, epoch) => {
                server.lease = server.lease.map(|held| Held { marked: held.epoch == epoch, ..held });
            }
            Intent::Checkpoint(..) => server.lease = server.lease.map(|held| Held { marked: false, ..held }),
            Intent::Detach(..) => server.lease = None,
            Intent::Seal(number, ..) => {
                server.lease = None;
                server.disk.drafts.remove(&number);
            }
            Intent::Forget(root) => {
                server.disk.delete(root);
                self.outcome.pruned += 1;
                self.note(|| format!("{} deleted {}", name(at), root.short()));
                self.tell(at, Event::Unwanted { root });
                return self.look_at_copies();
            }
            Intent::Read(..) => server.earlier = Earlier::Answered,
            Intent::Release(_)
            | Intent::Promote(_)
            | Intent::Create
            | Intent::Delete(_)
            | Intent::Report(_) => {}
        }
        Ok(())
    }

    /// The answer did not come: whether it was committed is not known, so a lease is not used again.
    pub(super) fn give_up(&mut self, sent: &Sent) {
        let server = &mut self.servers[sent.server];
        if server.incarnation != sent.incarnation
            || server.waits_for.as_ref().is_none_or(|(id, _)| *id != sent.id)
        {
            return;
        }
        server.waits_for = None;
        let of_lease = matches!(
            sent.intent,
            Intent::Attach { .. }
                | Intent::Mark(..)
                | Intent::Checkpoint(..)
                | Intent::Detach(..)
                | Intent::Seal(..)
        );
        if of_lease {
            server.lease = None;
        }
        // All that it reads is here: it may begin without the others knowing.
        let waiting = server.waiting.take().filter(|session| server.disk.is_whole(session.root));
        self.note(|| format!("{} gave up waiting for: {}", name(sent.server), describe(&sent.intent)));
        if let Some(session) = waiting {
            self.begin(sent.server, session);
        }
    }

    pub(super) fn restart(&mut self, at: usize) -> Result<(), Broken> {
        let old = &mut self.servers[at];
        let (disk, incarnation) = (std::mem::take(&mut old.disk), old.incarnation + 1);
        self.servers[at] = crate::server::Server::start(at, disk, incarnation, self.now);
        self.note(|| format!("{} starts again", name(at)));
        self.ledger.disk(at, &self.servers[at].disk)?;
        self.refresh(at);
        self.begin_beating(at);
        Ok(())
    }

    pub(super) fn crash(&mut self, at: usize) {
        self.note(|| format!("{} loses its power", name(at)));
        self.outcome.crashes += 1;
        let server = &mut self.servers[at];
        (server.up, server.lease, server.waits_for) = (false, None, None);
        (server.sessions, server.waiting) = (Vec::new(), None);
        server.disk.lose_power(&mut self.random);
        let away = Duration::from_millis(200 + self.random.below(4000));
        self.after(away, Happening::Restart(at));
    }
}

fn describe(intent: &Intent) -> String {
    match intent {
        Intent::Attach { number, device, resumes, checkpoint, epoch } => {
            let who = if *device { "the maintenance machine" } else { "the server itself" };
            let how = if *resumes { "going on with its files" } else { "above the checkpoint" };
            format!("{who} attaches version {number}, epoch {epoch}, {how} {}", checkpoint.short())
        }
        Intent::Mark(number, epoch) => format!("version {number} is being written, epoch {epoch}"),
        Intent::Checkpoint(number, _, root) => format!("checkpoint {} of version {number}", root.short()),
        Intent::Detach(number, epoch) => format!("version {number} is let go, epoch {epoch}"),
        Intent::Seal(number, _, root) => format!("version {number} is sealed as {}", root.short()),
        Intent::Release(number) => format!("an admin takes the lease of version {number} away"),
        Intent::Promote(number) => format!("an admin promotes version {number}"),
        Intent::Create => "an admin makes a version".into(),
        Intent::Delete(number) => format!("an admin deletes version {number}"),
        Intent::Report(whole) => format!("{} contents are whole here", whole.len()),
        Intent::Read(reads, _) => format!("{} versions are read here", reads.len()),
        Intent::Forget(root) => format!("nothing needs {} here", root.short()),
    }
}
