//! What a client that is broken, slow or gone can do: end its own session, and nothing else.

use crate::support::*;
use disk::{Delayed, MemoryDisk};
use model::DiskSize;
use protocol::nbd::{Command, RequestHeader};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn server() -> (Arc<Disks>, headwater_streaming::NbdServer, SocketAddr) {
    let slow = Delayed::new(MemoryDisk::fixed(pattern(MIB)), Duration::from_millis(20));
    let writable = MemoryDisk::writable(DiskSize::new(64 * MIB as u64).unwrap());
    let disks = Disks::one("d", MemoryDisk::fixed(pattern(MIB))).and("slow", slow).and("w", writable);
    let disks = Arc::new(disks);
    let (server, address) = start(&disks);
    (disks, server, address)
}

/// Sends `bytes` and tells whether the server has ended the connection afterwards.
fn is_cut_off(address: SocketAddr, bytes: &[u8]) -> bool {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = socket.write_all(bytes); // the server may close before it has read everything
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn still_serves(address: SocketAddr) {
    let mut client = connect(address, "d", STRUCTURED).unwrap();
    assert_eq!(client.read(100, 1000).unwrap(), pattern(MIB)[100..1100]);
}

#[test]
fn garbage_in_the_handshake_ends_that_connection() {
    let (_disks, _server, address) = server();
    assert!(is_cut_off(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(is_cut_off(address, &[0xff; 100_000]));
    assert!(is_cut_off(address, &[&[0, 0, 0, 3][..], &[0; 16]].concat()));
    still_serves(address);
}

#[test]
fn an_option_of_four_gigabytes_ends_that_connection() {
    let (_disks, _server, address) = server();
    let option = [&[0, 0, 0, 3][..], b"IHAVEOPT", &[0, 0, 0, 7], &[0xff; 4]].concat();
    assert!(is_cut_off(address, &option));
    still_serves(address);
}

#[test]
fn a_write_of_33_mib_and_a_wrong_magic_end_their_sessions() {
    let (_disks, _server, address) = server();
    let huge = RequestHeader::new(Command::Write, 0, 0, 33 << 20).encode();
    for bytes in [huge.to_vec(), vec![0x55; 28]] {
        let mut client = connect(address, "w", SIMPLE).unwrap();
        client.socket.write_all(&bytes).unwrap();
        assert!(client.next_answer().is_err());
    }
    still_serves(address);
}

#[test]
fn an_unfinished_write_stores_nothing() {
    let (_disks, server, address) = server();
    let mut client = connect(address, "w", SIMPLE).unwrap();
    client.socket.write_all(&RequestHeader::new(Command::Write, 9, 0, 32 << 20).encode()).unwrap();
    client.socket.write_all(&[1; 100_000]).unwrap();
    drop(client);
    wait_until("the end of the writer", || server.stats().connections == 0);
    let mut client = connect(address, "w", SIMPLE).unwrap();
    assert_eq!(client.read(0, 4096).unwrap(), vec![0; 4096]);
}

#[test]
fn a_client_that_opens_nothing_is_sent_away_in_time() {
    let disks = Arc::new(Disks::one("d", MemoryDisk::fixed(pattern(MIB))));
    let (_server, address) =
        start_with(&disks, |options| options.handshake_timeout = Duration::from_millis(500));
    let mut served = connect(address, "d", SIMPLE).unwrap();
    let mut idle = TcpStream::connect(address).unwrap();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    // One byte at a time: always alive, never done.
    let mut slow = TcpStream::connect(address).unwrap();
    wait_until("the end of the slow one", || {
        slow.write_all(&[0]).is_err() || begun.elapsed() > Duration::from_secs(5)
    });
    let _ = idle.read_to_end(&mut Vec::new());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // A session that was opened in time may be idle for as long as it likes.
    assert!(served.read(0, 512).is_ok());
}

#[test]
fn one_connection_too_many_is_refused() {
    let disks = Arc::new(Disks::one("d", MemoryDisk::fixed(pattern(MIB))));
    let (_server, address) = start_with(&disks, |options| options.max_connections = 2);
    let _a = connect(address, "d", SIMPLE).unwrap();
    let b = connect(address, "d", SIMPLE).unwrap();
    assert!(is_cut_off(address, &[]));
    drop(b);
    wait_until("a free place", || connect(address, "d", SIMPLE).is_ok());
}

#[test]
fn twenty_clients_that_vanish_with_requests_in_flight_disturb_nobody() {
    let (_disks, server, address) = server();
    let mut steady = connect(address, "d", SIMPLE).unwrap();
    for round in 0..20u64 {
        let name = ["slow", "d", "w"][round as usize % 3];
        let mut client = connect(address, name, SIMPLE).unwrap();
        for i in 0..32 {
            client.send(RequestHeader::new(Command::Read, 0, i * 4096, 65_536), &[]).unwrap();
        }
        if round % 2 == 0 {
            // A reset instead of a farewell: unread data are thrown away.
            let socket = socket2::SockRef::from(&client.socket);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        assert_eq!(steady.read(round * 512, 4096).unwrap().len(), 4096);
    }
    wait_until("the end of all others", || server.stats().connections == 1);
    assert!(steady.read(0, 512).is_ok());
}
