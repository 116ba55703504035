//! Whole machines in network namespaces: the harness of the end-to-end tests.
//!
//! A [`Segment`] is an Ethernet of its own: a bridge in a network namespace that lives exactly as
//! long as the test. [`Host`]s (our server, a foreign DHCP server) are further namespaces plugged
//! into it; [`Machine`]s are QEMU guests without a disk. Nothing here reaches the machine's own
//! network, and nothing is left behind: namespaces go with the process that holds them.
//!
//! What a test asks for is seen on a guest's serial [`console`]; every wait has a limit and every
//! failure shows the console's last lines. A [`scene`] is one server, a [`farm`] several on a real
//! etcd. Read next: `tests/boot_matrix.rs`, `tests/farm.rs`.

pub mod child;
pub mod client;
pub mod console;
pub mod dnsmasq;
pub mod etcd;
pub mod farm;
pub mod faults;
pub mod figure;
pub mod ledger;
pub mod machine;
pub mod mounted;
pub mod nbd;
pub mod needs;
pub mod network;
pub mod scene;
pub mod seat;
pub mod server;
pub mod wires;

pub use console::Console;
pub use farm::Farm;
pub use machine::Machine;
pub use network::{Host, Segment};
pub use server::Server;
