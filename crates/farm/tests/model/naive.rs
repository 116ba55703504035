//! The rules that others tried, small: each loses a byte, and the checker must find how.
//!
//! If it did not find these, it would prove nothing about the rules that we keep
//! (`super::world`). What they have in common: a draft's bytes lie on the server that executed the
//! writes, and somebody decides without asking that server.

use stateright::{Model, Property};

/// The servers.
const SERVERS: usize = 3;
/// The writes, each of which a device was told is safe.
const WRITES: u8 = 2;
/// The most attachments.
const EPOCHS: u8 = 4;

/// A set of rules that is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Files replicate by themselves, and the newer file replaces the older one (DFS-R's way).
    LastWriterWins,
    /// A lease in the database says who writes; whoever believes to have it may also checkpoint.
    LeaseWithoutFencing,
    /// The lease has an epoch, and the database takes nothing from an old one.
    LeaseWithEpoch,
    /// As before, and while anybody has written something no seal is taken; a checkpoint clears it.
    GlobalDirtyFlag,
    /// As before, but the note names the epoch and its server, and only that server may go on; an
    /// admin may discard the epoch that it names.
    DirtyPerEpoch,
}

/// Every scheme, the weakest first.
pub(crate) const SCHEMES: [Scheme; 5] = [
    Scheme::LastWriterWins,
    Scheme::LeaseWithoutFencing,
    Scheme::LeaseWithEpoch,
    Scheme::GlobalDirtyFlag,
    Scheme::DirtyPerEpoch,
];

/// A set of writes, one bit each.
type Bytes = u8;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    epoch: u8,
    holder: Option<usize>,
    checkpoint: Bytes,
    dirty: Option<(u8, usize)>,
    /// What was promoted.
    sealed: Option<Bytes>,
    servers: [Server; SERVERS],
    /// The epoch of each acknowledged write.
    acknowledged: [Option<u8>; WRITES as usize],
    /// The epochs that an admin discarded by name, one bit each.
    named: u8,
    clock: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Server {
    lease: Option<u8>,
    files: Bytes,
    /// When its file was touched last, by the one clock that everybody wishes to have.
    touched: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Take(usize),
    Write(usize),
    Checkpoint(usize),
    Promote(usize),
    Crash(usize),
    Replicate { from: usize, to: usize },
    Discard,
}

impl State {
    fn next_write(&self) -> Option<u8> {
        (0..WRITES).find(|write| self.acknowledged[*write as usize].is_none())
    }

    fn lost(&self) -> bool {
        let Some(sealed) = self.sealed else { return false };
        (0..WRITES).any(|write| match self.acknowledged[write as usize] {
            Some(epoch) => sealed & 1 << write == 0 && self.named & 1 << epoch == 0,
            None => false,
        })
    }
}

impl Scheme {
    fn take(self, state: &mut State, server: usize) -> Option<()> {
        let elsewhere = state.dirty.is_some_and(|(_, dirty)| dirty != server);
        if state.epoch == EPOCHS || self == Self::DirtyPerEpoch && elsewhere {
            return None;
        }
        state.epoch += 1;
        if state.holder != Some(server) {
            state.servers[server].files = state.checkpoint;
        }
        state.holder = Some(server);
        state.servers[server].lease = Some(state.epoch);
        Some(())
    }

    fn write(self, state: &mut State, server: usize) -> Option<()> {
        let write = state.next_write()?;
        // The one machine that writes has been sent to this server.
        if self == Self::LastWriterWins && server != 2 {
            return None;
        }
        let epoch = match self {
            Self::LastWriterWins => 0,
            _ => state.servers[server].lease?,
        };
        match self {
            Self::GlobalDirtyFlag | Self::DirtyPerEpoch if epoch != state.epoch => return None,
            Self::GlobalDirtyFlag | Self::DirtyPerEpoch => state.dirty = Some((epoch, server)),
            _ => (),
        }
        state.clock += 1;
        state.servers[server].touched = state.clock;
        state.servers[server].files |= 1 << write;
        state.acknowledged[write as usize] = Some(epoch);
        Some(())
    }

    fn checkpoint(self, state: &mut State, server: usize) -> Option<()> {
        let epoch = state.servers[server].lease?;
        if self != Self::LeaseWithoutFencing && epoch != state.epoch {
            return None;
        }
        state.checkpoint = state.servers[server].files;
        state.dirty = None;
        Some(())
    }

    fn promote(self, state: &mut State, server: usize) -> Option<()> {
        if self == Self::LastWriterWins {
            // Promoting changes the file's header, and so its time. It is what all servers will have.
            state.clock += 1;
            state.servers[server].touched = state.clock;
            return Some(());
        }
        let epoch = state.servers[server].lease?;
        if self != Self::LeaseWithoutFencing && epoch != state.epoch || state.dirty.is_some() {
            return None;
        }
        state.sealed = Some(match self {
            Self::GlobalDirtyFlag | Self::DirtyPerEpoch => state.checkpoint,
            _ => state.servers[server].files,
        });
        Some(())
    }
}

impl Model for Scheme {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.sealed.is_some() {
            return;
        }
        for server in 0..SERVERS {
            actions.push(Action::Write(server));
            actions.push(Action::Promote(server));
            if *self == Self::LastWriterWins {
                actions.extend((0..SERVERS).map(|from| Action::Replicate { from, to: server }));
            } else {
                actions.extend([Action::Take(server), Action::Checkpoint(server), Action::Crash(server)]);
            }
        }
        actions.push(Action::Discard);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Take(server) => self.take(&mut state, server)?,
            Action::Write(server) => self.write(&mut state, server)?,
            Action::Checkpoint(server) => self.checkpoint(&mut state, server)?,
            Action::Promote(server) => self.promote(&mut state, server)?,
            Action::Crash(server) => state.servers[server].lease = None,
            Action::Replicate { from, to } if last.servers[from].touched > last.servers[to].touched => {
                state.servers[to] = last.servers[from].clone();
            }
            Action::Replicate { .. } => return None,
            Action::Discard => {
                let (epoch, _) = state.dirty.filter(|_| *self == Self::DirtyPerEpoch)?;
                state.named |= 1 << epoch;
                (state.dirty, state.holder, state.epoch) = (None, None, state.epoch + 1);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("what was acknowledged is not lost", |scheme: &Scheme, state: &State| {
            match scheme {
                // Nobody seals there: a byte is lost once no server has it.
                Scheme::LastWriterWins => (0..WRITES).all(|write| {
                    let somewhere = state.servers.iter().any(|server| server.files & 1 << write != 0);
                    state.acknowledged[write as usize].is_none() || somewhere
                }),
                _ => !state.lost(),
            }
        })]
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.clock < 6 && state.epoch <= EPOCHS
    }
}
