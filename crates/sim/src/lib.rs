//! A farm of three servers in one thread: the real rules (`farm`), the real replication
//! (`mesh::engine`), and around them a simulated network, clock, database and disks. Everything that
//! happens follows from one number, the seed: [`run`] with the same seed does the same again, and
//! what it finds it tells as a readable trace. docs/operations/simulation.md says how to play a seed again.
//!
//! What goes wrong: messages are late or lost, links are cut one way and both ways, the database is
//! out of reach, answers of transactions are lost, servers crash and lose what was not synced. What
//! must hold all the same stands in [`Broken`].
//!
//! What is modelled and not real: sockets, files, and the store: [`disk`] keeps its order (data,
//! sync, presence) and none of its formats. `store`'s own tests kill real processes.
//!
//! Read next: [`world`] for what happens, [`server`] for what a server does, [`check`] for what must
//! hold.

pub mod check;
pub mod commands;
pub mod database;
pub mod disk;
pub mod last_writer_wins;
pub mod network;
pub mod random;
pub mod server;
pub mod world;

pub use check::Broken;
pub use world::{Finding, Outcome, run, trace};

/// What the servers get wrong on purpose, to show that the checks would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// A chunk counts as present before its bytes are synced.
    PresenceBeforeData,
    /// A version is promoted as the server last saw it, without comparing its root or its seal.
    PromotionUnchecked,
    /// Versions are deleted and contents pruned without asking who reads them.
    PruneWithoutSessions,
    /// Who deletes asks its own sessions only, and not those of the other servers.
    OthersNotAsked,
}
