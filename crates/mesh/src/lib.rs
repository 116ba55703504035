//! Server to server: who has what, pulling what is missing here, serving what others miss.
//!
//! Full mesh, pull, no scheduler in the middle (DESIGN section 6). [`identity`] says who a server
//! is, [`join`] gives one to a new server, [`link`] keeps the connections, [`peers`] is how the rest
//! sees them, [`serve`] answers what they ask, [`pull`] fetches what this server's stores must have:
//! in bulk, and at once where a device waits. [`engine`] is the decision what to ask of whom, and
//! when, as a state machine without sockets, clock or files.
//!
//! What it does not do: it knows no farm records. Which servers there are and which versions are
//! wanted is told from outside, and that one is complete is told to the outside.

mod background;
mod encoding;
pub mod engine;
pub mod identity;
pub mod join;
pub mod link;
pub mod peers;
pub mod pull;
pub mod serve;

pub use engine::Priority;
pub use peers::{PeerDown, PeerHandler, Peers};
pub use pull::{
    Backlog, FetchError, Mended, Policy, PullObserver, PullOptions, Puller, Reason, Slot, Wanted,
};
pub use serve::Shares;
