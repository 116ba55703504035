//! A farm of servers that run the real rules: every decision is a call of `farm::rules` on the
//! records, committed as `farm-db` commits it, if what it relied on still holds.
//!
//! What is modelled around them is what a server does by itself: files on its disk, a lease that it
//! believes in, a gate before its writes. Servers crash, freeze and go on with an old epoch, lose
//! their disk, fetch contents from each other and let them go. One transaction may be on its way
//! while others are decided and committed, which shows whether a rule names all it relies on.
//!
//! Not modelled: the order of bytes within a draft (the store's tests), and time (`gate.rs`).

use super::records::{committed, may_hold};
use farm::rules::draft::{self, Attach, Content, Lease, SinceCheckpoint};
use farm::rules::orphan::{self, Discard};
use farm::rules::setup::{ServerStarts, server_starts};
use farm::rules::vdisk::{RegisterVDisk, register};
use farm::rules::version::{self, CopyRule, CreateVersion, Promote, PromoteTo, Seen, When};
use farm::rules::{copy, orphan::claimed_from};
use farm::{Bootable, Change, Epoch, FarmView, OrphanState, Stamp, Timestamp, VersionState, roots_in_use};
use model::{DiskSize, Name, Root, VersionNumber};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most servers.
pub(crate) const SERVERS: usize = 3;
/// The most writes.
pub(crate) const WRITES: usize = 3;
/// The version whose draft everybody writes; version 1 is in production.
pub(crate) const NUMBER: VersionNumber = VersionNumber(2);
const NOW: Timestamp = Timestamp(0);

/// A set of writes, one bit each: the content of a draft, a version, a copy.
pub(crate) type Bytes = u8;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How many servers there are, 1 to 3.
    pub(crate) servers: usize,
    /// How many writes there are, 0 to 3.
    pub(crate) writes: usize,
    /// How often the epoch may rise.
    pub(crate) epochs: u64,
    /// How many disks may be lost.
    pub(crate) losses: u8,
    /// Whether contents are fetched and let go.
    pub(crate) copies: bool,
    /// Whether a transaction may be on its way while others commit.
    pub(crate) races: bool,
}

/// What a server may get wrong around right rules. The checker must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// None: as the server is written.
    None,
    /// Writes are admitted while a checkpoint commits that calls itself clean.
    OpenGate,
    /// After a clean checkpoint the next write does not mark the draft dirty again.
    StaysMarked,
    /// The dirty server begins above the checkpoint where its files are gone.
    ResumesWithoutFiles,
    /// A draft that is not resumed goes on with whatever files lie there.
    KeepsOldFiles,
    /// A copy is let go because of another's record, without asking that server.
    TrustsRecords,
    /// A copy is let go while a transaction of a killed process may still come.
    ForgetsAtOnce,
}

/// The farm, its servers, and what a device was told.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// The records.
    pub(crate) farm: Arc<FarmView>,
    /// The servers.
    pub(crate) servers: [Server; SERVERS],
    /// What devices were told is safe.
    pub(crate) acknowledged: [Option<Acknowledged>; WRITES],
    /// The transaction on its way.
    pub(crate) in_flight: Option<InFlight>,
    /// What an admin gave up, as it was named.
    pub(crate) given_up: Vec<(usize, Epoch, Epoch)>,
    /// How many disks were lost.
    pub(crate) losses: u8,
    /// Writes that were on a lost disk.
    pub(crate) lost_writes: Bytes,
    /// Contents that only a lost disk had, one bit each.
    pub(crate) lost_roots: u8,
    /// An old epoch has changed a record, or something in use was let go without another copy.
    pub(crate) broken: bool,
}

/// One server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Server {
    /// The epoch that it believes to hold, and whether a device writes.
    pub(crate) lease: Option<(Epoch, bool)>,
    /// Whether that epoch is noted as dirty, so that writes need not ask.
    pub(crate) marked: bool,
    /// The draft's files, and the content they lie above.
    pub(crate) files: Option<(Bytes, Bytes)>,
    /// Discarded writes that it keeps.
    pub(crate) kept: Bytes,
    /// The contents that are complete on its disk, one bit each.
    pub(crate) complete: u8,
}

/// A write that a device was told is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Acknowledged {
    /// The server that said so.
    pub(crate) server: usize,
    /// The epoch it believed to hold.
    pub(crate) epoch: Epoch,
}

/// A transaction that was decided and has not reached the database.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    /// What it does.
    pub(crate) intent: Intent,
    /// The transaction.
    pub(crate) change: Arc<Change>,
    /// Whether who sent it still waits for the answer.
    pub(crate) awaited: bool,
}

/// What somebody wants to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Intent {
    Attach { server: usize, device: bool },
    Mark { server: usize, epoch: Epoch },
    Checkpoint { server: usize, epoch: Epoch, content: Bytes, clean: bool },
    Detach { server: usize, epoch: Epoch },
    Seal { server: usize, epoch: Epoch, content: Bytes },
    Forget { server: usize, content: Bytes },
    ForgetSpare { server: usize, content: Bytes, confirmed: usize },
    PutAside { server: usize },
    Report { server: usize },
    Release,
    Discard,
    Promote,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Decides and commits at once.
    Do(Intent),
    /// Decides; the transaction is on its way.
    Send(Intent),
    /// The transaction on its way reaches the database.
    Deliver,
    /// A write is executed and acknowledged.
    Write(usize),
    /// The server hears that its epoch has passed.
    Learn(usize),
    /// The server forgets all that is not on its disk.
    Crash(usize),
    /// The server no longer waits for the answer to its transaction, which may still come.
    GiveUpWaiting(usize),
    /// The server's disk is replaced by an empty one.
    LoseDisk(usize),
    /// The server gets a content completely from another one, and says so.
    Fetch { server: usize, content: Bytes },
}

/// The model: a farm within bounds, with a flaw or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// How much is tried.
    pub(crate) bounds: Bounds,
    /// What the servers get wrong.
    pub(crate) flaw: Flaw,
}

impl State {
    /// The first state: version 1 in production and complete everywhere, version 2 a fresh draft.
    pub(crate) fn first(bounds: Bounds) -> Self {
        let mut farm = FarmView::default();
        for server in 0..bounds.servers {
            let stores = [(name("default"), "/srv".to_owned())].into();
            let starts = ServerStarts { server: server_name(server), stores, new_token_hash: None };
            farm = committed(&farm, &server_starts(&farm, starts, NOW)).expect("nobody else is there");
        }
        let image = RegisterVDisk {
            name: vdisk(),
            store: name("default"),
            server: server_name(0),
            root: root(0),
            size: DiskSize::new(1 << 20).expect("a size"),
            data_bytes: 0,
            boot: bootable(),
            comment: String::new(),
            by: String::new(),
        };
        farm = committed(&farm, &register(&farm, image, NOW).expect("the name is free")).expect("alone");
        for server in 1..bounds.servers {
            let complete = BTreeSet::from([root(0)]);
            let change = copy::report(&farm, &server_name(server), &complete, NOW);
            farm = committed(&farm, &change).expect("alone");
        }
        let create = CreateVersion { vdisk: vdisk(), from: None, comment: String::new() };
        farm = committed(&farm, &version::create(&farm, create, &admin()).expect("it can")).expect("alone");
        let mut servers = [Server::default(); SERVERS];
        servers[..bounds.servers].iter_mut().for_each(|server| server.complete = 1);
        Self {
            farm: Arc::new(farm),
            servers,
            acknowledged: [None; WRITES],
            in_flight: None,
            given_up: Vec::new(),
            losses: 0,
            lost_writes: 0,
            lost_roots: 0,
            broken: false,
        }
    }

    /// The draft's record, as long as there is one.
    pub(crate) fn draft(&self) -> Option<&farm::Draft> {
        self.farm.draft(&vdisk(), NUMBER).map(|draft| &draft.record)
    }

    /// The version that everybody writes.
    pub(crate) fn version(&self) -> &farm::Version {
        self.farm.version(&vdisk(), NUMBER).expect("nobody deletes it")
    }

    /// Whether an admin gave a write up by name.
    pub(crate) fn is_given_up(&self, write: Acknowledged) -> bool {
        let covers = |(server, from, to): &(usize, Epoch, Epoch)| {
            *server == write.server && (*from..=*to).contains(&write.epoch)
        };
        self.given_up.iter().any(covers)
    }

    fn has(&self, server: usize, content: Bytes) -> bool {
        self.servers[server].complete & 1 << content != 0
    }

    /// Whether the server's gate is closed because a commit of its own must not be overtaken.
    fn gate_is_closed(&self, server: usize) -> bool {
        self.in_flight.as_ref().filter(|sent| sent.awaited).is_some_and(|sent| match sent.intent {
            Intent::Checkpoint { server: of, clean: true, .. } | Intent::Seal { server: of, .. } => {
                of == server
            }
            _ => false,
        })
    }

    /// Whether nothing on the server itself needs a content: files above it, a checkpoint being made.
    fn may_forget(&self, server: usize, content: Bytes) -> bool {
        let needed = self.servers[server].files.is_some_and(|(_, base)| base == content);
        self.has(server, content) && !needed && !self.busy(server)
    }

    /// A transaction that can no longer hold is answered at once: nothing follows from it.
    fn drop_what_cannot_hold(&mut self) {
        if self.in_flight.as_ref().is_some_and(|sent| !may_hold(&self.farm, &sent.change)) {
            self.in_flight = None;
        }
    }

    fn busy(&self, server: usize) -> bool {
        self.in_flight.as_ref().is_some_and(|sent| sent.awaited && sent.intent.server() == Some(server))
    }
}

impl Intent {
    /// The server that wants it.
    pub(crate) fn server(self) -> Option<usize> {
        match self {
            Self::Attach { server, .. }
            | Self::Mark { server, .. }
            | Self::Checkpoint { server, .. }
            | Self::Detach { server, .. }
            | Self::Seal { server, .. }
            | Self::Forget { server, .. }
            | Self::ForgetSpare { server, .. }
            | Self::PutAside { server }
            | Self::Report { server } => Some(server),
            Self::Release | Self::Discard | Self::Promote => None,
        }
    }

    /// The epoch whose lease it shows.
    fn epoch(self) -> Option<Epoch> {
        match self {
            Self::Mark { epoch, .. }
            | Self::Checkpoint { epoch, .. }
            | Self::Detach { epoch, .. }
            | Self::Seal { epoch, .. } => Some(epoch),
            _ => None,
        }
    }
}

impl World {
    /// What may happen next, some of which turns out to be refused.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        let mut intents = vec![Intent::Release, Intent::Discard, Intent::Promote];
        for server in 0..self.bounds.servers {
            self.possible_on(state, server, actions, &mut intents);
        }
        let races = self.bounds.races && state.in_flight.is_none();
        for intent in intents {
            actions.push(Action::Do(intent));
            let alone = matches!(intent, Intent::Report { .. } | Intent::PutAside { .. } | Intent::Release);
            if races && !alone {
                actions.push(Action::Send(intent));
            }
        }
        if state.in_flight.is_some() {
            actions.push(Action::Deliver);
        }
    }

    fn possible_on(
        &self,
        state: &State,
        server: usize,
        actions: &mut Vec<Action>,
        intents: &mut Vec<Intent>,
    ) {
        let here = &state.servers[server];
        actions.extend([Action::Write(server), Action::Learn(server), Action::Crash(server)]);
        if state.busy(server) {
            actions.push(Action::GiveUpWaiting(server));
        }
        if state.losses < self.bounds.losses {
            actions.push(Action::LoseDisk(server));
        }
        if self.bounds.copies {
            actions.extend((0..8).map(|content| Action::Fetch { server, content }));
            intents.extend((0..8).map(|content| Intent::Forget { server, content }));
            for confirmed in (0..self.bounds.servers).filter(|other| *other != server) {
                intents.extend((0..8).map(|content| Intent::ForgetSpare { server, content, confirmed }));
            }
        }
        intents.push(Intent::PutAside { server });
        intents.push(Intent::Report { server });
        if state.busy(server) {
            return;
        }
        intents.extend([true, false].map(|device| Intent::Attach { server, device }));
        let Some((epoch, device)) = here.lease else { return };
        let content = here.files.map_or(0, |(bytes, _)| bytes);
        if !here.marked {
            intents.push(Intent::Mark { server, epoch });
        }
        intents.push(Intent::Detach { server, epoch });
        intents.extend([true, false].map(|clean| Intent::Checkpoint { server, epoch, content, clean }));
        if !device {
            intents.push(Intent::Seal { server, epoch, content });
        }
    }

    /// The state after an action; none where it is refused or changes nothing.
    pub(crate) fn after(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Do(intent) => {
                let change = self.decide(&mut state, intent)?;
                self.commit(&mut state, intent, &change, true)?;
            }
            Action::Send(intent) => {
                let change = Arc::new(self.decide(&mut state, intent)?);
                state.in_flight = Some(InFlight { intent, change, awaited: true });
            }
            Action::Deliver => {
                let InFlight { intent, change, awaited } = state.in_flight.take()?;
                self.commit(&mut state, intent, &change, awaited);
            }
            Action::Write(server) => self.write(&mut state, server)?,
            Action::Learn(server) => {
                let (epoch, _) = state.servers[server].lease?;
                if state.draft().is_some_and(|draft| draft.epoch == epoch) {
                    return None;
                }
                (state.servers[server].lease, state.servers[server].marked) = (None, false);
            }
            Action::Crash(server) => crash(&mut state, server)?,
            Action::GiveUpWaiting(server) => give_up_waiting(&mut state, server)?,
            Action::LoseDisk(server) => lose_disk(&mut state, server),
            Action::Fetch { server, content } => fetch(&mut state, server, content)?,
        }
        Some(state)
    }

    /// Asks the rule, after the checks that the server makes on its own disk.
    fn decide(&self, state: &mut State, intent: Intent) -> Option<Change> {
        let view = Arc::clone(&state.farm);
        let lease = |server: usize, epoch: Epoch| Lease {
            vdisk: vdisk(),
            number: NUMBER,
            server: server_name(server),
            epoch,
        };
        match intent {
            Intent::Attach { server, device } => {
                let before = state.draft()?;
                let resumes = draft::resumes(before, &server_name(server));
                let base = bytes(before.checkpoint);
                let can_open =
                    state.servers[server].files.is_some() || self.flaw == Flaw::ResumesWithoutFiles;
                if !state.has(server, base) || resumes && !can_open || before.epoch.0 >= self.bounds.epochs {
                    return None;
                }
                let device = device.then(|| name("m"));
                let attach = Attach { vdisk: vdisk(), number: NUMBER, server: server_name(server), device };
                Some(draft::attach(&view, &attach, NOW).ok()?.0)
            }
            Intent::Mark { server, epoch } => draft::mark_dirty(&view, &lease(server, epoch), NOW).ok(),
            Intent::Checkpoint { server, epoch, content, clean } => {
                state.servers[server].complete |= 1 << content;
                let since = if clean { SinceCheckpoint::Clean } else { SinceCheckpoint::Written };
                draft::checkpoint(&view, &lease(server, epoch), content_of(content), since, NOW).ok()
            }
            Intent::Detach { server, epoch } => draft::detach(&view, &lease(server, epoch)).ok(),
            Intent::Seal { server, epoch, content } => {
                state.servers[server].complete |= 1 << content;
                draft::seal(&view, &lease(server, epoch), content_of(content), &admin()).ok()
            }
            Intent::Forget { server, content } => {
                let view = self.fenced(state, server);
                let change = copy::forget(&view, root(content), &server_name(server)).ok()?;
                (state.may_forget(server, content) && !change.writes.is_empty()).then_some(change)
            }
            Intent::ForgetSpare { server, content, confirmed } => {
                let has_it = state.has(confirmed, content) || self.flaw == Flaw::TrustsRecords;
                let view = self.fenced(state, server);
                let (server_name, confirmed) = (server_name(server), server_name(confirmed));
                let change =
                    copy::forget_one_of_several(&view, root(content), &server_name, &confirmed).ok()?;
                (has_it && state.may_forget(server, content) && !change.writes.is_empty()).then_some(change)
            }
            Intent::PutAside { server } => put_aside(state, &view, server),
            Intent::Report { server } => {
                let complete = (0..8).filter(|content| state.has(server, *content)).map(root).collect();
                let change = copy::report(&view, &server_name(server), &complete, NOW);
                (!change.writes.is_empty() && !state.busy(server)).then_some(change)
            }
            Intent::Release => draft::release(&view, &vdisk(), NUMBER, &admin()).ok(),
            Intent::Discard => {
                let command = orphan::discardable(&view, &vdisk(), NUMBER).ok()?;
                orphan::discard(&view, &command, &admin()).ok()
            }
            Intent::Promote => {
                let seen = Seen { root: state.version().root, production: view.vdisks[&vdisk()].production };
                let to = PromoteTo::Production(When::Now(CopyRule::AtLeast(1)));
                let command = Promote { vdisk: vdisk(), number: NUMBER, to, seen };
                version::promote(&view, &command, &admin()).ok()
            }
        }
    }

    /// The records after the server has made void what it sent before it was killed.
    fn fenced(&self, state: &mut State, server: usize) -> Arc<FarmView> {
        if self.flaw != Flaw::ForgetsAtOnce {
            let change = copy::fence(&state.farm, &server_name(server));
            state.farm = Arc::new(committed(&state.farm, &change).expect("decided just now"));
            state.drop_what_cannot_hold();
        }
        Arc::clone(&state.farm)
    }

    /// Commits a change if what it relied on holds, and lets its sender go on.
    fn commit(&self, state: &mut State, intent: Intent, change: &Change, awaited: bool) -> Option<()> {
        let before = Arc::clone(&state.farm);
        state.farm = Arc::new(committed(&before, change)?);
        let present = before.draft(&vdisk(), NUMBER).map(|draft| draft.epoch);
        state.broken |= intent.epoch().is_some_and(|epoch| present != Some(epoch));
        state.drop_what_cannot_hold();
        if awaited || intent.server().is_none() {
            self.go_on(state, intent, &before);
        }
        Some(())
    }

    /// What the sender does once it knows that its transaction was committed.
    fn go_on(&self, state: &mut State, intent: Intent, before: &FarmView) {
        match intent {
            Intent::Attach { server, device } => {
                let draft = &before.draft(&vdisk(), NUMBER).expect("it was attached").record;
                let base = bytes(draft.checkpoint);
                let fresh = Some((base, base));
                let resumes = draft::resumes(draft, &server_name(server));
                let here = &mut state.servers[server];
                here.files = match here.files {
                    Some(_) if resumes || self.flaw == Flaw::KeepsOldFiles => here.files,
                    _ => fresh,
                };
                (here.lease, here.marked) = (Some((draft.epoch.next(), device)), false);
            }
            Intent::Mark { server, epoch } => {
                let here = &mut state.servers[server];
                here.marked |= here.lease.is_some_and(|(held, _)| held == epoch);
            }
            Intent::Checkpoint { server, epoch, clean: true, .. } => {
                let here = &mut state.servers[server];
                here.marked &=
                    here.lease.is_none_or(|(held, _)| held != epoch) || self.flaw == Flaw::StaysMarked;
            }
            Intent::Detach { server, .. } => {
                (state.servers[server].lease, state.servers[server].marked) = (None, false);
            }
            Intent::Seal { server, .. } => {
                let Server { kept, complete, .. } = state.servers[server];
                state.servers[server] = Server { kept, complete, ..Server::default() };
            }
            Intent::Forget { server, content } => {
                state.servers[server].complete &= !(1 << content);
                state.broken |= roots_in_use(&state.farm).contains(&root(content));
            }
            Intent::ForgetSpare { server, content, .. } => state.servers[server].complete &= !(1 << content),
            Intent::Discard => {
                let Discard { server, from_epoch, to_epoch, .. } =
                    orphan::discardable(before, &vdisk(), NUMBER).expect("it was discarded");
                let server = (0..SERVERS).find(|at| server_name(*at) == server).expect("one of ours");
                state.given_up.push((server, from_epoch, to_epoch));
            }
            Intent::Checkpoint { clean: false, .. }
            | Intent::PutAside { .. }
            | Intent::Report { .. }
            | Intent::Release
            | Intent::Promote => (),
        }
    }

    /// Rule h: a write is executed only with a lease, after its epoch was noted, behind the gate.
    fn write(&self, state: &mut State, server: usize) -> Option<()> {
        let (epoch, _) = state.servers[server].lease.filter(|_| state.servers[server].marked)?;
        if state.gate_is_closed(server) && self.flaw != Flaw::OpenGate {
            return None;
        }
        let write = (0..self.bounds.writes).find(|write| state.acknowledged[*write].is_none())?;
        let (bytes, base) = state.servers[server].files?;
        state.servers[server].files = Some((bytes | 1 << write, base));
        state.acknowledged[write] = Some(Acknowledged { server, epoch });
        Some(())
    }
}

fn crash(state: &mut State, server: usize) -> Option<()> {
    let (lease, busy) = (state.servers[server].lease, state.busy(server));
    if lease.is_none() && !busy {
        return None;
    }
    forget_memory(state, server);
    Some(())
}

/// The gate opens again, and the next write notes its epoch first.
fn give_up_waiting(state: &mut State, server: usize) -> Option<()> {
    let sent = state.in_flight.as_mut().filter(|sent| sent.intent.server() == Some(server))?;
    sent.awaited = false;
    state.servers[server].marked = false;
    Some(())
}

fn forget_memory(state: &mut State, server: usize) {
    (state.servers[server].lease, state.servers[server].marked) = (None, false);
    if let Some(sent) = state.in_flight.as_mut().filter(|sent| sent.intent.server() == Some(server)) {
        sent.awaited = false;
    }
}

fn lose_disk(state: &mut State, server: usize) {
    forget_memory(state, server);
    let lost = std::mem::take(&mut state.servers[server]);
    state.losses += 1;
    state.lost_writes |= lost.kept | lost.files.map_or(0, |(bytes, _)| bytes);
    // A copy whose going is on its way, confirmed by this server, is as good as gone.
    let leaving = state.in_flight.as_ref().and_then(|sent| match sent.intent {
        Intent::ForgetSpare { server, content, .. } => Some((server, content)),
        _ => None,
    });
    for content in 0..8 {
        let stays = |other: usize| state.has(other, content) && leaving != Some((other, content));
        let elsewhere = (0..SERVERS).any(stays);
        if lost.complete & 1 << content != 0 && !elsewhere {
            state.lost_roots |= 1 << content;
            state.lost_writes |= content;
        }
    }
}

/// Fetches what a record needs, from another server's disk.
fn fetch(state: &mut State, server: usize, content: Bytes) -> Option<()> {
    let from_another = (0..SERVERS).any(|other| other != server && state.has(other, content));
    let in_use = roots_in_use(&state.farm).contains(&root(content));
    if state.has(server, content) || !from_another || !in_use {
        return None;
    }
    state.servers[server].complete |= 1 << content;
    let complete = (0..8).filter(|content| state.has(server, *content)).map(root).collect();
    let change = copy::report(&state.farm, &server_name(server), &complete, NOW);
    state.farm = Arc::new(committed(&state.farm, &change)?);
    Some(())
}

/// The server puts discarded bytes aside: it ends the old lease first, renames, then says so.
fn put_aside(state: &mut State, view: &FarmView, server: usize) -> Option<Change> {
    let name = server_name(server);
    let (id, _) = claimed_from(view, &name).next()?;
    forget_memory(state, server);
    let here = &mut state.servers[server];
    let found = match here.files.take() {
        Some((bytes, _)) => {
            here.kept |= bytes;
            OrphanState::Kept
        }
        None => OrphanState::Lost,
    };
    orphan::settle(view, id, found).ok()
}

/// The content with these writes: its name says them.
pub(crate) fn root(content: Bytes) -> Root {
    Root::from_bytes([content; 32])
}

/// The writes of a content.
pub(crate) fn bytes(root: Root) -> Bytes {
    root.as_bytes()[0]
}

/// The name of a server.
pub(crate) fn server_name(server: usize) -> Name {
    name(["s1", "s2", "s3"][server])
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The one vDisk.
pub(crate) fn vdisk() -> Name {
    name("v")
}

fn admin() -> Stamp {
    Stamp::new("", NOW)
}

fn bootable() -> Bootable {
    Bootable::No { reason: String::new() }
}

fn content_of(content: Bytes) -> Content {
    Content { root: root(content), data_bytes: 0, boot: bootable() }
}

/// Whether the version that everybody writes is sealed.
pub(crate) fn is_sealed(state: &State) -> bool {
    state.version().state == VersionState::Sealed
}
