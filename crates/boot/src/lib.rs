//! How a diskless device gets from its firmware to the agent: DHCP, TFTP, iPXE scripts, initrd.
//!
//! The protocols are decided in `protocol` without sockets; here are the sockets. The HTTP side
//! (script, kernel, initrd, plan) is served by `headwater serve` with what [`ipxe`] and [`initrd`]
//! render.

pub mod initrd;
pub mod ipxe;
