//! Tests of `dhcp::decide`.

use super::*;
use crate::dhcp::client::Architecture;
use crate::dhcp::config::{BootOffer, Loader};
use crate::dhcp::packet::{Options, Packet};
use model::MacAddress;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const NOW: u64 = 1_000_000;
const AT_SERVER: Arrival =
    Arrival { port: Port::Server, source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT) };

fn mac(last: u8) -> MacAddress {
    MacAddress([0x52, 0x54, 0, 0, 0, last])
}

fn pool(first: u8, last: u8) -> Pool {
    Pool {
        first: Ipv4Addr::new(10, 0, 0, first),
        last: Ipv4Addr::new(10, 0, 0, last),
        netmask: Ipv4Addr::new(255, 255, 255, 0),
        router: Some(SERVER),
        dns: vec![SERVER],
        domain: Some("lab".to_owned()),
        lease_s: 3600,
        reservations: BTreeMap::new(),
    }
}

fn config(mode: Mode) -> DhcpConfig {
    let bios = Loader {
        file: "undionly.kpxe".to_owned(),
        url: "http://10.0.0.1:6900/boot/v1/loader/undionly.kpxe".to_owned(),
    };
    let uefi = Loader {
        file: "snponly.efi".to_owned(),
        url: "http://10.0.0.1:6900/boot/v1/loader/snponly.efi".to_owned(),
    };
    let loaders = BTreeMap::from([(Architecture::Bios, bios), (Architecture::UefiX64, uefi)]);
    let script_url = "http://10.0.0.1:6900/boot/v1/script".to_owned();
    DhcpConfig { mode, server: SERVER, boot: BootOffer { script_url, loaders } }
}

fn full(pool: Pool) -> DhcpConfig {
    config(Mode::Full(pool))
}

fn request(message: Message, mac: MacAddress, client: ClientKind) -> Request {
    Request {
        message,
        mac,
        xid: 7,
        wants_broadcast: false,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        requested: None,
        server_id: None,
        client,
        client_id: Some(vec![1, 2, 3]),
        relay_information: None,
        machine_id: Some(vec![0; 17]),
    }
}

fn rom(message: Message) -> Request {
    request(message, mac(1), ClientKind::PxeRom(Architecture::Bios))
}

fn ipxe(message: Message) -> Request {
    request(message, mac(1), ClientKind::Ipxe(Architecture::Bios))
}

fn sent(answer: &Answer) -> Packet {
    Packet::parse(&answer.reply.as_ref().expect("an answer").bytes).expect("our own message")
}

fn text(options: &Options, code: u8) -> String {
    String::from_utf8(options[&code].clone()).unwrap()
}

/// Discover and request, as a client does it; the address that it ends up with.
fn boot_once(config: &DhcpConfig, leases: &mut Leases, who: MacAddress, now_s: u64) -> Option<Ipv4Addr> {
    let client = ClientKind::PxeRom(Architecture::Bios);
    let discover = request(Message::Discover, who, client);
    let offer = decide(&discover, AT_SERVER, config, leases, now_s);
    leases.apply(offer.change);
    let Why::Offered(address) = offer.why else { return None };
    let mut take = request(Message::Request, who, client);
    take.requested = Some(address);
    take.server_id = Some(SERVER);
    let ack = decide(&take, AT_SERVER, config, leases, now_s);
    leases.apply(ack.change);
    assert_eq!(ack.why, Why::Given(address));
    Some(address)
}

#[test]
fn a_rom_is_offered_an_address_and_the_loader() {
    let answer = decide(&rom(Message::Discover), AT_SERVER, &full(pool(100, 200)), &Leases::default(), NOW);
    let offer = sent(&answer);
    assert_eq!(answer.reply.unwrap().to, Destination::Broadcast);
    assert_eq!(offer.siaddr, SERVER);
    assert_eq!(offer.file, b"undionly.kpxe");
    assert!((100..=200).contains(&offer.yiaddr.octets()[3]));
    assert_eq!(text(&offer.options, 60), "PXEClient");
    assert_eq!(text(&offer.options, 66), "10.0.0.1");
    assert_eq!(text(&offer.options, 67), "undionly.kpxe");
    assert_eq!(offer.options[&43], [6, 1, 8, 255]);
    assert_eq!(offer.options[&54], SERVER.octets());
    assert_eq!(offer.options[&97], [0; 17]);
    assert_eq!(offer.options[&1], [255, 255, 255, 0]);
    assert_eq!(offer.options[&61], [1, 2, 3]);
}

#[test]
fn an_ipxe_is_sent_to_its_script() {
    let answer = decide(&ipxe(Message::Discover), AT_SERVER, &full(pool(100, 200)), &Leases::default(), NOW);
    let offer = sent(&answer);
    let url = "http://10.0.0.1:6900/boot/v1/script?mac=52:54:00:00:00:01";
    assert_eq!(text(&offer.options, 67), url);
    assert_eq!(offer.file, url.as_bytes());
    assert_eq!(offer.options[&175], [176, 1, 1]);
}

#[test]
fn a_uefi_http_client_gets_a_url() {
    let client = ClientKind::UefiHttp(Architecture::UefiX64);
    let discover = request(Message::Discover, mac(1), client);
    let answer = decide(&discover, AT_SERVER, &config(Mode::Proxy), &Leases::default(), NOW);
    let offer = sent(&answer);
    assert_eq!(text(&offer.options, 60), "HTTPClient");
    assert!(text(&offer.options, 67).starts_with("http://10.0.0.1:6900/"));
}

#[test]
fn a_proxy_gives_boot_information_and_no_address() {
    let proxy = config(Mode::Proxy);
    let answer = decide(&ipxe(Message::Discover), AT_SERVER, &proxy, &Leases::default(), NOW);
    let offer = sent(&answer);
    assert!(offer.yiaddr.is_unspecified());
    assert_eq!(offer.siaddr, SERVER);
    assert_eq!(text(&offer.options, 60), "PXEClient");
    assert!(!offer.options.contains_key(&1) && !offer.options.contains_key(&51));
}

#[test]
fn a_proxy_leaves_everybody_else_alone() {
    let proxy = config(Mode::Proxy);
    let ordinary = request(Message::Discover, mac(1), ClientKind::Ordinary);
    let answer = decide(&ordinary, AT_SERVER, &proxy, &Leases::default(), NOW);
    assert_eq!((answer.reply, answer.why), (None, Why::NotBooting));
    let mut chose_other = ipxe(Message::Request);
    chose_other.server_id = Some(Ipv4Addr::new(10, 0, 0, 2));
    let answer = decide(&chose_other, AT_SERVER, &proxy, &Leases::default(), NOW);
    assert_eq!(answer.reply, None);
}

#[test]
fn the_boot_port_answers_the_sender() {
    let mut ask = rom(Message::Request);
    ask.ciaddr = Ipv4Addr::new(10, 0, 0, 77);
    let source = SocketAddrV4::new(ask.ciaddr, 4011);
    let arrival = Arrival { port: Port::Boot, source };
    let answer = decide(&ask, arrival, &config(Mode::Proxy), &Leases::default(), NOW);
    let ack = sent(&answer);
    assert_eq!(answer.reply.unwrap().to, Destination::Unicast(source));
    assert_eq!(ack.options[&53], [5]);
    assert_eq!(ack.file, b"undionly.kpxe");
}

#[test]
fn without_a_loader_the_reason_has_a_hint() {
    let client = ClientKind::PxeRom(Architecture::Other(11));
    let discover = request(Message::Discover, mac(1), client);
    let answer = decide(&discover, AT_SERVER, &config(Mode::Proxy), &Leases::default(), NOW);
    assert_eq!(answer.reply, None);
    assert!(answer.why.to_string().contains("hint: install the package ipxe"));
}

#[test]
fn loader_and_operating_system_get_one_address() {
    let config = full(pool(100, 200));
    let mut leases = Leases::default();
    let address = boot_once(&config, &mut leases, mac(1), NOW).unwrap();
    let mut system = request(Message::Discover, mac(1), ClientKind::Ordinary);
    system.client_id = Some(vec![255, 9, 9, 9]);
    let answer = decide(&system, AT_SERVER, &config, &leases, NOW + 60);
    assert_eq!(answer.why, Why::Offered(address));
    assert!(!sent(&answer).options.contains_key(&67));
}

#[test]
fn a_reservation_wins_and_others_never_get_it() {
    let mut pool = pool(100, 101);
    let reserved = Ipv4Addr::new(10, 0, 0, 100);
    pool.reservations.insert(mac(9), reserved);
    let config = full(pool);
    let mut leases = Leases::default();
    assert_eq!(boot_once(&config, &mut leases, mac(1), NOW), Some(Ipv4Addr::new(10, 0, 0, 101)));
    assert_eq!(boot_once(&config, &mut leases, mac(2), NOW), None);
    assert_eq!(boot_once(&config, &mut leases, mac(9), NOW), Some(reserved));
}

#[test]
fn an_ended_lease_is_given_to_the_next() {
    let config = full(pool(100, 100));
    let mut leases = Leases::default();
    let address = boot_once(&config, &mut leases, mac(1), NOW);
    assert_eq!(boot_once(&config, &mut leases, mac(2), NOW + 3599), None);
    assert_eq!(boot_once(&config, &mut leases, mac(2), NOW + 3600), address);
    let mut renewal = rom(Message::Request);
    renewal.ciaddr = address.unwrap();
    let answer = decide(&renewal, AT_SERVER, &config, &leases, NOW + 3700);
    assert_eq!(answer.why, Why::Refused(address));
    assert_eq!(sent(&answer).options[&53], [6]);
}

#[test]
fn a_renewal_is_answered_to_the_clients_address() {
    let config = full(pool(100, 200));
    let mut leases = Leases::default();
    let address = boot_once(&config, &mut leases, mac(1), NOW).unwrap();
    let mut renewal = request(Message::Request, mac(1), ClientKind::Ordinary);
    renewal.ciaddr = address;
    let answer = decide(&renewal, AT_SERVER, &config, &leases, NOW + 1800);
    assert_eq!(answer.change, LeaseChange::Bind(mac(1), Lease { address, until_s: NOW + 1800 + 3600 }));
    let to = Destination::Unicast(SocketAddrV4::new(address, CLIENT_PORT));
    assert_eq!(answer.reply.unwrap().to, to);
}

#[test]
fn a_machine_from_another_network_is_told_so() {
    let mut moved = request(Message::Request, mac(1), ClientKind::Ordinary);
    moved.requested = Some(Ipv4Addr::new(192, 168, 1, 5));
    let answer = decide(&moved, AT_SERVER, &full(pool(100, 200)), &Leases::default(), NOW);
    assert!(matches!(answer.why, Why::Refused(_)));
}

#[test]
fn a_declined_address_rests() {
    let config = full(pool(100, 101));
    let mut leases = Leases::default();
    let address = boot_once(&config, &mut leases, mac(1), NOW).unwrap();
    let mut decline = rom(Message::Decline);
    decline.requested = Some(address);
    let answer = decide(&decline, AT_SERVER, &config, &leases, NOW);
    leases.apply(answer.change);
    assert_eq!(answer.why, Why::Declined(address));
    assert_ne!(boot_once(&config, &mut leases, mac(1), NOW), Some(address));
    assert_eq!(boot_once(&config, &mut leases, mac(2), NOW + 1), None);
    assert_eq!(boot_once(&config, &mut leases, mac(2), NOW + DECLINE_S + 1), Some(address));
}

#[test]
fn only_its_own_lease_can_be_released() {
    let config = full(pool(100, 200));
    let mut leases = Leases::default();
    let address = boot_once(&config, &mut leases, mac(1), NOW).unwrap();
    let mut release = request(Message::Release, mac(2), ClientKind::Ordinary);
    release.ciaddr = address;
    assert_eq!(decide(&release, AT_SERVER, &config, &leases, NOW).change, LeaseChange::None);
    release.mac = mac(1);
    let answer = decide(&release, AT_SERVER, &config, &leases, NOW);
    assert_eq!(answer.change, LeaseChange::Release(mac(1)));
}

#[test]
fn a_relay_gets_the_answer_with_its_own_option() {
    let mut relayed = rom(Message::Discover);
    relayed.giaddr = Ipv4Addr::new(10, 0, 0, 254);
    relayed.relay_information = Some(vec![1, 1, 7]);
    let answer = decide(&relayed, AT_SERVER, &full(pool(100, 200)), &Leases::default(), NOW);
    assert_eq!(sent(&answer).options[&82], [1, 1, 7]);
    let to = Destination::Unicast(SocketAddrV4::new(relayed.giaddr, SERVER_PORT));
    assert_eq!(answer.reply.unwrap().to, to);
}

proptest! {
    /// Whatever clients do in whatever order, no address is held by two of them at one time.
    #[test]
    fn no_address_is_given_twice(
        steps in proptest::collection::vec((0u8..12, 0u8..4, 0u64..900, 90u8..112), 1..200)
    ) {
        let config = full(pool(100, 107));
        let mut leases = Leases::default();
        let mut holders: BTreeMap<Ipv4Addr, (MacAddress, u64)> = BTreeMap::new();
        let mut now_s = NOW;
        for (who, what, wait_s, address) in steps {
            now_s += wait_s;
            let message = [Message::Discover, Message::Request, Message::Request, Message::Release]
                [usize::from(what)];
            let mut ask = request(message, mac(who), ClientKind::Ordinary);
            let address = Ipv4Addr::new(10, 0, 0, address);
            ask.requested = Some(address);
            ask.ciaddr = if what == 3 { address } else { Ipv4Addr::UNSPECIFIED };
            let answer = decide(&ask, AT_SERVER, &config, &leases, now_s);
            leases.apply(answer.change);
            match answer.change {
                LeaseChange::Bind(mac, lease) => {
                    // A device that takes a second address has left its first.
                    holders.retain(|address, (holder, _)| *holder != mac || *address == lease.address);
                    if let Some((holder, until_s)) = holders.insert(lease.address, (mac, lease.until_s)) {
                        prop_assert!(holder == mac || until_s <= now_s);
                    }
                }
                LeaseChange::Release(mac) => holders.retain(|_, (holder, _)| *holder != mac),
                _ => {}
            }
            let addresses: BTreeSet<_> = leases.iter().map(|(_, lease)| lease.address).collect();
            prop_assert_eq!(addresses.len(), leases.iter().count());
            prop_assert!(leases.iter().count() <= 8);
        }
    }

    #[test]
    fn any_datagram_ends_in_a_decision(bytes in proptest::collection::vec(any::<u8>(), 240..500), message in 1u8..9) {
        let mut bytes = bytes;
        bytes[0] = 1;
        bytes[1..3].copy_from_slice(&[1, 6]);
        bytes[28] = 2;
        bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
        bytes.splice(240..240, [53, 1, message]);
        if let Ok(request) = Request::parse(&bytes) {
            for config in [full(pool(100, 101)), config(Mode::Proxy), config(Mode::Off)] {
                for port in [Port::Server, Port::Boot] {
                    let arrival = Arrival { port, ..AT_SERVER };
                    let answer = decide(&request, arrival, &config, &Leases::default(), NOW);
                    if let Some(reply) = answer.reply {
                        prop_assert!(reply.bytes.len() >= 300);
                        prop_assert!(Packet::parse(&reply.bytes).is_ok());
                    }
                }
            }
        }
    }
}
