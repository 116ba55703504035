//! Builds the answers' bytes.

use super::client::ClientKind;
use super::config::{DhcpConfig, Mode, Pool};
use super::packet::{Options, Packet};
use super::request::Request;
use std::net::Ipv4Addr;

/// PXE_DISCOVERY_CONTROL (43.6) = 8: no boot server discovery, load the file that is named here.
/// 255 ends the encapsulated options (PXE specification 2.1, table 2-1).
const PXE_OPTIONS: [u8; 4] = [6, 1, 8, 255];
/// iPXE's option 175.176 `no-pxedhcp` = 1: saves the three seconds that it would wait for a proxy.
const IPXE_NO_PROXY: [u8; 3] = [176, 1, 1];

/// A server's message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Offer = 2,
    Ack = 5,
    Nak = 6,
}

/// An answer being put together.
pub(super) struct Builder<'a> {
    request: &'a Request,
    config: &'a DhcpConfig,
    packet: Packet,
}

impl<'a> Builder<'a> {
    pub(super) fn new(kind: Kind, request: &'a Request, config: &'a DhcpConfig) -> Self {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&request.mac.octets());
        let mut options = Options::new();
        options.insert(53, vec![kind as u8]);
        options.insert(54, config.server.octets().to_vec());
        let echoes = [(61, &request.client_id), (82, &request.relay_information)];
        for (code, value) in echoes {
            options.extend(value.clone().map(|value| (code, value)));
        }
        let ciaddr = if kind == Kind::Ack { request.ciaddr } else { Ipv4Addr::UNSPECIFIED };
        let packet = Packet {
            op: 2,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid: request.xid,
            secs: 0,
            flags: if request.wants_broadcast { 0x8000 } else { 0 },
            ciaddr,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: request.giaddr,
            chaddr,
            file: Vec::new(),
            options,
        };
        Self { request, config, packet }
    }

    /// Gives an address for `lease_s` seconds; renewal after a half, rebinding after 7/8.
    pub(super) fn address(mut self, address: Ipv4Addr, lease_s: u32) -> Self {
        self.packet.yiaddr = address;
        let seconds = [(51, lease_s), (58, lease_s / 2), (59, lease_s / 8 * 7)];
        self.packet.options.extend(seconds.map(|(code, value)| (code, value.to_be_bytes().to_vec())));
        self
    }

    /// Describes the subnet.
    pub(super) fn network(mut self, pool: &Pool) -> Self {
        let broadcast = u32::from(self.config.server) | !u32::from(pool.netmask);
        let addresses = |list: &[Ipv4Addr]| list.iter().flat_map(|one| one.octets()).collect();
        let options = &mut self.packet.options;
        options.insert(1, pool.netmask.octets().to_vec());
        options.insert(28, broadcast.to_be_bytes().to_vec());
        options.extend(pool.router.map(|router| (3, router.octets().to_vec())));
        if !pool.dns.is_empty() {
            options.insert(6, addresses(&pool.dns[..pool.dns.len().min(8)]));
        }
        options.extend(pool.domain.as_ref().map(|domain| (15, domain.as_bytes().to_vec())));
        self
    }

    /// Names the boot file: in the fixed fields, which old ROMs read, and in options 66 and 67.
    ///
    /// An iPXE that gets its address here is told not to wait for a proxy; in a proxy's answer
    /// (no address) it needs the vendor class, as every PXE client does.
    pub(super) fn boot(mut self, file: Option<String>) -> Self {
        let Some(file) = file else { return self };
        let is_proxy = matches!(self.config.mode, Mode::Proxy);
        let options = &mut self.packet.options;
        match self.request.client {
            ClientKind::Ordinary => return self,
            ClientKind::UefiHttp(_) => {
                options.insert(60, b"HTTPClient".to_vec());
            }
            ClientKind::Ipxe(_) if !is_proxy => {
                options.insert(175, IPXE_NO_PROXY.to_vec());
            }
            ClientKind::Ipxe(_) | ClientKind::PxeRom(_) => {
                options.insert(60, b"PXEClient".to_vec());
                options.insert(43, PXE_OPTIONS.to_vec());
            }
        }
        options.extend(self.request.machine_id.clone().map(|value| (97, value)));
        options.insert(66, self.config.server.to_string().into_bytes());
        options.insert(67, file.clone().into_bytes());
        self.packet.siaddr = self.config.server;
        if file.len() < 128 {
            self.packet.file = file.into_bytes();
        }
        self
    }

    /// The bytes to send.
    pub(super) fn finish(self) -> Vec<u8> {
        self.packet.encode()
    }
}
