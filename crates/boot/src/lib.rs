//! How a diskless device gets from its firmware to the agent: DHCP, TFTP, iPXE scripts, initrd.
//!
//! The protocols are decided in `protocol` without sockets; [`dhcp`] and [`tftp`] are the sockets.
//! The HTTP side (script, loader, kernel, initrd, plan) is served by `headwater serve` with what
//! [`ipxe`], [`loaders`] and [`initrd`] provide. Both servers tell a [`BootObserver`] what they
//! see, for the boot timelines.

pub mod dhcp;
pub mod initrd;
pub mod ipxe;
pub mod loaders;
mod log_budget;
mod neighbour;
pub mod observer;
mod socket;
pub mod tftp;

pub use observer::{BootEvent, BootObserver, BootStep};
pub use socket::BindError;
