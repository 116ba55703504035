//! Server to server: who has what, pulling what is missing here, serving what others miss.
//!
//! Full mesh, pull, no scheduler in the middle (DESIGN section 6). [`peers`] is how the others are
//! reached, [`serve`] answers what they ask, [`pull`] fetches what this server's stores must have:
//! in bulk, and at once where a device waits. [`engine`] is the decision what to ask of whom, and
//! when, as a state machine without sockets, clock or files.
//!
//! What it does not do: it knows no farm records. Which versions are wanted is told from outside,
//! and that one is complete is told to the outside.

pub mod identity;
pub mod engine;
pub mod peers;
pub mod pull;
pub mod serve;

pub use peers::{PeerDown, PeerHandler, Peers};
pub use pull::{Backlog, FetchError, PullObserver, PullOptions, Puller, Reason, Wanted};
pub use serve::Shares;
