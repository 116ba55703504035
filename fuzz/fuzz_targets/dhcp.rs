//! Whatever a client sends to the DHCP ports ends in a decision.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::dhcp::packet::Packet;
use protocol::dhcp::{Arrival, BootOffer, DhcpConfig, Leases, Mode, Pool, Port, Request, decide};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

fuzz_target!(|data: &[u8]| {
    if let Ok(packet) = Packet::parse(data) {
        let bytes = packet.encode();
        assert!(bytes.len() > 4096 || Packet::parse(&bytes).is_ok());
    }
    serve(data);
    // A good fixed part, so that the options are reached: op, Ethernet, a MAC, the cookie.
    let mut framed = vec![0; 240];
    framed[..3].copy_from_slice(&[1, 1, 6]);
    framed[28] = 2;
    framed[236..].copy_from_slice(&[99, 130, 83, 99]);
    framed.extend(data);
    serve(&framed);
});

fn serve(data: &[u8]) {
    let Ok(request) = Request::parse(data) else { return };
    let mut leases = Leases::default();
    for mode in [Mode::Proxy, Mode::Full(pool())] {
        for port in [Port::Server, Port::Boot] {
            let source = SocketAddrV4::new(request.ciaddr, 68);
            let config = config(mode.clone());
            let answer = decide(&request, Arrival { port, source }, &config, &leases, 1_000);
            leases.apply(answer.change);
            if let Some(reply) = answer.reply {
                Packet::parse(&reply.bytes).expect("what we send is well-formed");
            }
        }
    }
    assert!(leases.iter().count() <= 1);
}

fn config(mode: Mode) -> DhcpConfig {
    let script_url = "http://10.0.0.1:6900/boot/v1/script".to_owned();
    let boot = BootOffer { script_url, loaders: BTreeMap::new() };
    DhcpConfig { mode, server: Ipv4Addr::new(10, 0, 0, 1), boot }
}

fn pool() -> Pool {
    Pool {
        first: Ipv4Addr::new(10, 0, 0, 100),
        last: Ipv4Addr::new(10, 0, 0, 103),
        netmask: Ipv4Addr::new(255, 255, 255, 0),
        router: None,
        dns: Vec::new(),
        domain: None,
        lease_s: 600,
        reservations: BTreeMap::new(),
    }
}
