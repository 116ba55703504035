//! The session of the kernel's driver, spoken by hand.

use super::*;
use crate::remote::{RemoteDisk, RemoteTarget};
use crate::test_server::{Manner, TestServer, pattern};
use protocol::nbd::wire::SIMPLE_REPLY_BYTES;
use protocol::nbd::{Command, RequestHeader};
use protocol::plan::{BootPlan, DiskPlan};
use std::collections::BTreeMap;
use std::thread::JoinHandle;

const MIB: usize = 1 << 20;

/// The kernel's end of a session.
struct Kernel {
    socket: UnixStream,
    server: TestServer,
    disk: Arc<DeviceDisk>,
    session: Option<JoinHandle<SessionEnd>>,
}

impl Kernel {
    fn connect(bytes: Vec<u8>, limit_bytes: u64) -> Self {
        let server = TestServer::start(bytes);
        let target = RemoteTarget::of_plan(&plan(&server));
        Self::over(server, DeviceDisk::cached(RemoteDisk::start(target).unwrap(), limit_bytes))
    }

    fn connect_draft(bytes: Vec<u8>) -> Self {
        let server = TestServer::start_draft(bytes);
        let target = RemoteTarget::of_plan(&BootPlan { disk: DiskPlan::Draft, ..plan(&server) });
        Self::over(server, DeviceDisk::draft(RemoteDisk::start(target).unwrap()))
    }

    fn over(server: TestServer, disk: DeviceDisk) -> Self {
        let disk = Arc::new(disk);
        let (socket, ours) = UnixStream::pair().unwrap();
        let of_thread = Arc::clone(&disk);
        let session = kernel_session(server.size().bytes());
        let client = Client { socket: ours, session, early: Vec::new() };
        let session = Some(std::thread::spawn(move || serve(&of_thread, client)));
        Self { socket, server, disk, session }
    }

    fn send(&mut self, command: Command, cookie: u64, offset: usize, payload: &[u8], len: usize) {
        let mut bytes = RequestHeader::new(command, cookie, offset as u64, len as u32).encode().to_vec();
        bytes.extend_from_slice(payload);
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next reply: its cookie, its error and, for a read of `len`, its data.
    fn receive(&mut self, lengths: &BTreeMap<u64, usize>) -> (u64, u32, Vec<u8>) {
        let mut head = [0; SIMPLE_REPLY_BYTES];
        self.socket.read_exact(&mut head).unwrap();
        let error = u32::from_be_bytes(head[4..8].try_into().unwrap());
        let cookie = u64::from_be_bytes(head[8..16].try_into().unwrap());
        let len = if error == 0 { lengths.get(&cookie).copied().unwrap_or(0) } else { 0 };
        let mut data = vec![0; len];
        self.socket.read_exact(&mut data).unwrap();
        (cookie, error, data)
    }

    fn read(&mut self, offset: usize, len: usize) -> Vec<u8> {
        self.send(Command::Read, 99, offset, &[], len);
        let (cookie, error, data) = self.receive(&BTreeMap::from([(99, len)]));
        assert_eq!((cookie, error), (99, 0));
        data
    }

    /// Does something that has no data to give back; answers the error number.
    fn change(&mut self, command: Command, offset: usize, payload: &[u8], len: usize) -> u32 {
        self.send(command, 7, offset, payload, len);
        self.receive(&BTreeMap::new()).1
    }

    fn end(mut self) -> SessionEnd {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
        self.session.take().unwrap().join().unwrap()
    }
}

fn plan(server: &TestServer) -> BootPlan {
    let json = serde_json::json!({
        "revision": 1, "device": "d", "mac": "52:54:00:12:34:56", "vdisk": "v", "version": 1,
        "root": "00".repeat(32), "size": server.size().bytes(), "export": "token",
        "servers": [server.in_plan("s0")],
        "disk": {"kind": "shared", "write_cache": {"kind": "device-ram", "limit_bytes": 0, "when_full": "refuse-writes"}},
        "report_urls": [], "report_interval_s": 10,
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn writes_are_read_back_and_never_reach_the_server() {
    let bytes = pattern(4 * MIB);
    let mut kernel = Kernel::connect(bytes.clone(), 64 << 20);
    assert_eq!(kernel.read(0, 131_072), bytes[..131_072]);
    assert_eq!(kernel.change(Command::Write, 8192, &[5; 4096], 4096), 0);
    assert_eq!(kernel.change(Command::Write, 20_000, &[6; 100], 100), 0, "less than a block");
    assert_eq!(kernel.change(Command::Flush, 0, &[], 0), 0);
    let mut expected = bytes;
    expected[8192..12_288].fill(5);
    expected[20_000..20_100].fill(6);
    assert_eq!(kernel.read(0, 65_536), expected[..65_536]);
    assert_eq!(kernel.disk.fill().written_bytes, 4196);
    assert!(matches!(kernel.end(), SessionEnd::Disconnected));
}

#[test]
fn a_draft_s_changes_and_flushes_are_the_server_s() {
    let mut kernel = Kernel::connect_draft(pattern(MIB));
    let mut expected = pattern(MIB);
    assert_eq!(kernel.change(Command::Write, 20_000, &[6; 100], 100), 0);
    assert_eq!(kernel.change(Command::Trim, 4096, &[], 4096), 0);
    assert_eq!(kernel.change(Command::WriteZeroes, 65_536, &[], 65_536), 0);
    assert_eq!(kernel.change(Command::Flush, 0, &[], 0), 0);
    expected[20_000..20_100].fill(6);
    expected[4096..8192].fill(0);
    expected[65_536..131_072].fill(0);
    assert!(kernel.read(0, MIB) == expected);
    assert!(kernel.server.bytes() == expected);
    assert_eq!(kernel.server.executed(), (3, 1));
    kernel.server.behave(Manner::Fenced);
    assert_eq!(kernel.change(Command::Write, 0, &[6; 512], 512), ErrorNumber::Perm.number());
    assert_eq!(kernel.disk.fill().written_bytes, 612);
}

#[test]
fn a_trim_hides_the_server_s_bytes() {
    let mut kernel = Kernel::connect(pattern(MIB), 64 << 20);
    assert_eq!(kernel.change(Command::Trim, 1000, &[], 200_000), 0);
    assert_eq!(kernel.read(1000, 200_000), vec![0; 200_000]);
    assert_ne!(kernel.read(0, 1000), vec![0; 1000]);
}

#[test]
fn a_full_cache_refuses_with_no_space_and_serves_on() {
    let bytes = pattern(MIB);
    let mut kernel = Kernel::connect(bytes.clone(), 10_000);
    assert_eq!(kernel.change(Command::Write, 0, &[1; 8192], 8192), 0);
    assert_eq!(kernel.change(Command::Write, 65_536, &[1; 8192], 8192), ErrorNumber::NoSpace.number());
    assert_eq!(kernel.read(65_536, 8192), bytes[65_536..73_728]);
    assert_eq!(kernel.disk.fill().refused, 1);
}

#[test]
fn what_is_in_the_cache_does_not_wait_for_a_server() {
    let mut kernel = Kernel::connect(pattern(MIB), 64 << 20);
    assert_eq!(kernel.change(Command::Write, 0, &[3; 4096], 4096), 0);
    kernel.server.behave(Manner::Silent);
    let lengths = BTreeMap::from([(1, 65_536), (2, 4096)]);
    kernel.send(Command::Read, 1, 500_000, &[], 65_536);
    kernel.send(Command::Read, 2, 0, &[], 4096);
    let (cookie, error, data) = kernel.receive(&lengths);
    assert_eq!((cookie, error), (2, 0));
    assert_eq!(data, [3; 4096]);
    kernel.server.wait_until_honest();
    kernel.server.hang_up();
    assert_eq!(kernel.receive(&lengths).0, 1);
}

#[test]
fn a_hundred_reads_in_flight_are_all_answered() {
    let bytes = pattern(8 * MIB);
    let mut kernel = Kernel::connect(bytes.clone(), 64 << 20);
    let lengths: BTreeMap<u64, usize> =
        (0..128).map(|cookie| (cookie, 4096 + cookie as usize * 512)).collect();
    for (cookie, len) in &lengths {
        kernel.send(Command::Read, *cookie, *cookie as usize * 60_000, &[], *len);
    }
    for _ in 0..lengths.len() {
        let (cookie, error, data) = kernel.receive(&lengths);
        let at = cookie as usize * 60_000;
        assert_eq!(error, 0);
        assert_eq!(data, bytes[at..at + lengths[&cookie]]);
    }
}

#[test]
fn a_request_outside_the_disk_is_refused() {
    let mut kernel = Kernel::connect(pattern(MIB), 64 << 20);
    assert_ne!(kernel.change(Command::Write, MIB - 512, &[0; 1024], 1024), 0);
    assert_eq!(kernel.change(Command::Write, 0, &[0; 512], 512), 0, "and the session goes on");
}

#[test]
fn what_is_no_request_ends_the_session() {
    let mut kernel = Kernel::connect(pattern(MIB), 64 << 20);
    kernel.socket.write_all(&[0xff; 28]).unwrap();
    assert!(matches!(kernel.session.take().unwrap().join().unwrap(), SessionEnd::Protocol(_)));
}
