//! What a rule answers.

use crate::event::NewEvent;
use crate::key::{Guard, Key};
use crate::record::Record;
use crate::view::Stored;
use std::fmt;

/// What to write, if what was relied upon still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Change {
    /// What of the view the decision relied on.
    pub preconditions: Vec<Precondition>,
    /// What to write; each key once.
    pub writes: Vec<Write>,
    /// What to tell people once it is written.
    pub events: Vec<NewEvent>,
}

/// A record that must be as the rule saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// The record's key.
    pub key: Key,
    /// The state it must be in.
    pub expect: Expect,
}

/// The state that a record must be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist.
    Absent,
    /// It was last written at this revision of the database.
    Unchanged(u64),
}

/// One record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Creates or replaces it.
    Put(Key, Vec<u8>),
    /// Deletes it.
    Delete(Key),
}

impl Change {
    pub(crate) fn absent(&mut self, key: Key) {
        self.preconditions.push(Precondition { key, expect: Expect::Absent });
    }

    pub(crate) fn unchanged<T>(&mut self, key: Key, seen: &Stored<T>) {
        self.preconditions.push(Precondition { key, expect: Expect::Unchanged(seen.mod_revision) });
    }

    /// Relies on a guard being as it was, which may be absent.
    pub(crate) fn unguarded(&mut self, guard: Guard, seen: Option<u64>) {
        let expect = seen.map_or(Expect::Absent, Expect::Unchanged);
        self.preconditions.push(Precondition { key: Key::Guard(guard), expect });
    }

    /// Tells the guard's other side that something is used now.
    pub(crate) fn guard(&mut self, guard: Guard) {
        let write = Write::Put(Key::Guard(guard), b"{}".to_vec());
        if !self.writes.contains(&write) {
            self.writes.push(write);
        }
    }

    pub(crate) fn put(&mut self, key: Key, record: &impl Record) {
        self.writes.push(Write::Put(key, record.encode()));
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.writes.push(Write::Delete(key));
    }

    pub(crate) fn event(&mut self, event: NewEvent) {
        self.events.push(event);
    }
}

/// Why a command is not carried out; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What sort of reason it is.
    pub kind: RefusalKind,
    /// What is the matter, for people.
    pub message: String,
    /// What to do next, for people.
    pub hint: String,
}

/// The sorts of refusals; the REST API answers each with its own status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What the command names does not exist.
    NotFound,
    /// What the command would make exists already.
    Exists,
    /// Something else still uses it.
    InUse,
    /// A limit is reached.
    Limit,
    /// The command makes no sense as it is.
    Invalid,
    /// A lease's epoch has passed: whoever shows it must not execute a write any more.
    Fenced,
    /// What the admin saw when deciding is not what is there now.
    Changed,
    /// Whoever asks may not do it.
    NotAllowed,
}

impl Refusal {
    /// A refusal with its message and hint.
    pub fn new(kind: RefusalKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: hint.into() }
    }

    pub(crate) fn not_found(what: &str, name: impl fmt::Display, list: &str) -> Self {
        Self::new(
            RefusalKind::NotFound,
            format!("there is no {what} {name}"),
            format!("`headwater {list}` shows what there is"),
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.message, self.hint)
    }
}

impl std::error::Error for Refusal {}
