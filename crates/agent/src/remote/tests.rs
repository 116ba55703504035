//! The link against servers that die, lie, fall silent and come back.

use super::*;
use crate::test_server::{Manner, TestServer, pattern};
use disk::contract;

mod draft;

const MIB: usize = 1 << 20;
/// Far more than any of these tests takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn remote(servers: &[&TestServer]) -> RemoteDisk {
    RemoteDisk::start(target(servers)).unwrap()
}

fn target(servers: &[&TestServer]) -> RemoteTarget {
    let named = servers.iter().enumerate().map(|(number, server)| server.in_plan(&format!("s{number}")));
    RemoteTarget {
        servers: named.collect(),
        export: "token".into(),
        size: servers[0].size(),
        access: Access::ReadOnly,
        patience: Patience {
            connect: Duration::from_secs(5),
            stall: Duration::from_millis(600),
            longest_pause: Duration::from_millis(100),
            unknown: Duration::from_millis(100),
        },
    }
}

fn read(disk: &RemoteDisk, offset: usize, len: usize) -> Result<Vec<u8>, BlockError> {
    let mut buffer = vec![0; len];
    disk.read_at(offset as u64, &mut buffer).map(|()| buffer)
}

#[test]
fn it_is_a_read_only_disk_with_the_server_s_bytes() {
    let bytes = pattern(3 * MIB + 512);
    let server = TestServer::start(bytes.clone());
    contract::read_only(&remote(&[&server]), &bytes);
}

#[test]
fn a_reply_that_is_cut_off_is_asked_for_again() {
    let bytes = pattern(2 * MIB);
    let server = TestServer::start(bytes.clone());
    let disk = remote(&[&server]);
    server.behave(Manner::CutOff);
    assert_eq!(read(&disk, 0, 2 * MIB).unwrap(), bytes);
    assert_eq!(server.connections(), 2);
    assert!(disk.status().retries >= 1);
}

#[test]
fn a_silent_server_is_left_for_the_next() {
    let bytes = pattern(MIB);
    let (silent, good) = (TestServer::start(bytes.clone()), TestServer::start(bytes.clone()));
    silent.behave(Manner::Silent);
    let disk = remote(&[&silent, &good]);
    assert_eq!(read(&disk, 4096, 65536).unwrap(), bytes[4096..4096 + 65536]);
    assert_eq!(disk.status().server.unwrap().as_str(), "s1");
}

#[test]
fn an_error_of_one_server_is_not_the_device_s() {
    let bytes = pattern(MIB);
    let (bad, good) = (TestServer::start(bytes.clone()), TestServer::start(bytes.clone()));
    bad.behave(Manner::Failing);
    assert_eq!(read(&remote(&[&bad, &good]), 0, MIB).unwrap(), bytes);
}

#[test]
fn what_no_server_can_read_fails_in_the_end() {
    let server = TestServer::start(pattern(MIB));
    server.behave(Manner::Failing);
    let disk = remote(&[&server]);
    assert!(matches!(read(&disk, 0, 4096), Err(BlockError::Io(_))));
    server.behave(Manner::Honest);
    assert!(read(&disk, 0, 4096).is_ok(), "and the disk goes on");
}

#[test]
fn a_server_with_another_size_is_never_used() {
    let bytes = pattern(MIB);
    let (wrong, good) = (TestServer::start(bytes.clone()), TestServer::start(bytes.clone()));
    wrong.tell_size(2 * MIB as u64);
    let disk = remote(&[&wrong, &good]);
    assert_eq!(read(&disk, 0, MIB).unwrap(), bytes);
    assert_eq!(disk.status().server.unwrap().as_str(), "s1");
}

#[test]
fn reads_in_flight_survive_a_server_that_hangs_up_again_and_again() {
    let bytes = pattern(4 * MIB);
    let server = TestServer::start(bytes.clone());
    let disk = remote(&[&server]);
    let enough = || server.connections() >= 10;
    std::thread::scope(|scope| {
        for reader in 0..4usize {
            let (disk, bytes) = (&disk, &bytes);
            scope.spawn(move || {
                let mut at = reader * 7919;
                while !enough() {
                    assert_eq!(read(disk, at, 100_000).unwrap(), bytes[at..at + 100_000]);
                    at = (at + 65_537) % (3 * MIB);
                }
            });
        }
        while !enough() {
            server.hang_up();
            std::thread::yield_now();
        }
    });
    assert!(disk.status().retries > 0);
}

#[test]
fn a_read_waits_for_a_server_that_is_not_there_yet() {
    let bytes = pattern(MIB);
    let absent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = TestServer::start(bytes.clone());
    let mut gone = good.in_plan("gone");
    gone.nbd = absent.to_string();
    let target = RemoteTarget {
        servers: vec![gone, good.in_plan("good")],
        export: "token".into(),
        size: good.size(),
        access: Access::ReadOnly,
        patience: Patience::for_servers(2),
    };
    let disk = RemoteDisk::start(target).unwrap();
    assert!(disk.wait_connected(LONG));
    assert_eq!(read(&disk, 0, 512).unwrap(), bytes[..512]);
}

#[test]
fn a_closed_disk_ends_its_reads() {
    let server = TestServer::start(pattern(MIB));
    server.behave(Manner::Silent);
    let disk = remote(&[&server]);
    assert!(disk.wait_connected(LONG));
    let (send, receive) = mpsc::channel();
    let done: CallDone = Box::new(move |result| send.send(result).unwrap());
    disk.submit(vec![RemoteCall { range: ByteRange::new(0, 512), action: Action::Read, done }]);
    drop(disk);
    assert_eq!(receive.recv_timeout(LONG).unwrap(), Err(BlockError::Closed));
}
