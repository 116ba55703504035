//! What a well-behaved client sees: bytes, errors by number, order, limits, the end.

use crate::support::*;
use disk::{BlockError, BlockIo, Delayed, Failing, Faults, FileDisk, MappedCache, MemoryDisk, RamCache};
use model::{ByteRange, DiskSize};
use protocol::nbd::wire::{command_flag, transmission_flag};
use protocol::nbd::{Command, ErrorNumber, RequestHeader};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn size(bytes: usize) -> DiskSize {
    DiskSize::new(bytes as u64).unwrap()
}

fn file_disk(bytes: &[u8]) -> (FileDisk, std::fs::File) {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    let disk = FileDisk::new(file.try_clone().unwrap(), size(bytes.len()), MappedCache::new(1 << 30));
    (disk.unwrap(), file)
}

#[test]
fn a_file_is_read_byte_for_byte_in_both_reply_forms() {
    let bytes = pattern(8 * MIB);
    let disks = Arc::new(Disks::one("d", file_disk(&bytes).0));
    let (_server, address) = start(&disks);
    for wishes in [SIMPLE, STRUCTURED] {
        let mut client = connect(address, "d", wishes).unwrap();
        assert_eq!(client.export.size_bytes, 8 * MIB as u64);
        for (offset, len) in [(0, 8 * MIB), (1, 1), (4095, 2), (65_535, 70_000), (8 * MIB - 1, 1)] {
            let read = client.read(offset as u64, len as u32).unwrap();
            assert!(read == bytes[offset..offset + len], "{len} bytes at {offset}");
        }
    }
}

#[test]
fn a_batch_of_requests_is_answered_completely_whatever_its_size() {
    let bytes = pattern(4 * MIB);
    let disks = Arc::new(Disks::one("d", file_disk(&bytes).0));
    let (_server, address) = start(&disks);
    let mut client = connect(address, "d", SIMPLE).unwrap();
    let mut offsets = std::collections::HashMap::new();
    // 3,000 replies of 64 KiB are 190 MiB: far more than the server queues for one client.
    for i in 0..3000u64 {
        let offset = (i * 77_777) % (4 * MIB as u64 - 65_536);
        let cookie = client.send(RequestHeader::new(Command::Read, 0, offset, 65_536), &[]).unwrap();
        offsets.insert(cookie, offset as usize);
    }
    for _ in 0..3000 {
        let (cookie, answer) = client.next_answer().unwrap();
        let offset = offsets.remove(&cookie).unwrap();
        assert!(answer.bytes == bytes[offset..offset + 65_536]);
    }
}

#[test]
fn a_crowd_that_asks_at_once_is_answered_byte_for_byte() {
    let bytes = pattern(4 * MIB);
    let disks = Arc::new(Disks::one("d", file_disk(&bytes).0));
    let (_server, address) = start(&disks);
    let mut clients: Vec<_> = (0..24).map(|_| connect(address, "d", STRUCTURED).unwrap()).collect();
    for round in 0..200u64 {
        if round == 100 {
            clients.truncate(20); // some leave in the middle
        }
        let mut asked = Vec::new();
        for (number, client) in clients.iter_mut().enumerate() {
            let seed = round * 31 + number as u64;
            // Mostly small ones, some for which a socket has no room; one is refused.
            let len = if seed.is_multiple_of(9) { 1_000_000 } else { 512 + seed * 773 % 20_000 };
            let offset = if seed % 50 == 7 { 4 * MIB as u64 } else { seed * 77_777 % (3 * MIB as u64) };
            client.send(RequestHeader::new(Command::Read, 0, offset, len as u32), &[]).unwrap();
            asked.push((offset as usize, len as usize));
        }
        for (client, (offset, len)) in clients.iter_mut().zip(asked) {
            let (_, answer) = client.next_answer().unwrap();
            if offset < 4 * MIB {
                assert!(answer.bytes == bytes[offset..offset + len], "{len} bytes at {offset}");
            } else {
                assert!(answer.error.is_some());
            }
        }
    }
}

#[test]
fn long_runs_of_zeros_between_data_are_read_byte_for_byte() {
    let disk = RamCache::new(MemoryDisk::writable(size(9 * MIB)), 1 << 20);
    disk.write_zeroes(ByteRange::new(0, 9 * MIB as u64)).unwrap(); // zeros by name, not bytes
    let mut bytes = vec![0; 9 * MIB];
    for at in [3 * MIB - 4096, 7 * MIB] {
        bytes[at..at + 5000].copy_from_slice(&pattern(5000));
        disk.write_at(at as u64, &bytes[at..at + 5000]).unwrap();
    }
    let disks = Arc::new(Disks::one("d", disk));
    let (_server, address) = start(&disks);
    for wishes in [SIMPLE, STRUCTURED] {
        let mut client = connect(address, "d", wishes).unwrap();
        for (offset, len) in [(0, 9 * MIB), (77, 3 * MIB - 5000), (3 * MIB + 8192, 3 * MIB + 1)] {
            let read = client.read(offset as u64, len as u32).unwrap();
            assert!(read == bytes[offset..offset + len], "{len} bytes at {offset}");
        }
    }
}

#[test]
fn what_is_written_is_read_back_on_every_connection() {
    let disks = Arc::new(Disks::one("d", MemoryDisk::writable(size(MIB))));
    let (_server, address) = start(&disks);
    let mut a = connect(address, "d", SIMPLE).unwrap();
    let mut b = connect(address, "d", STRUCTURED).unwrap();
    let flags = a.export.flags;
    assert_ne!(flags & transmission_flag::CAN_MULTI_CONN, 0);
    assert_eq!(flags & transmission_flag::READ_ONLY, 0);
    assert_eq!(a.write(1000, &pattern(300_000)), None);
    assert_eq!(b.read(1000, 300_000).unwrap(), pattern(300_000));
    assert_eq!(b.command(Command::Trim, 2000, 1000).error, None);
    let zeroes =
        RequestHeader { flags: command_flag::FUA, ..RequestHeader::new(Command::WriteZeroes, 0, 0, 512) };
    assert_eq!(a.call(zeroes, &[]).error, None);
    assert_eq!(a.command(Command::Flush, 0, 0).error, None);
    assert_eq!(a.command(Command::Cache, 0, 4096).error, None);
    assert_eq!(a.read(2000, 1000).unwrap(), vec![0; 1000]);
}

#[test]
fn block_status_tells_the_holes_and_reads_may_skip_them() {
    let disks = Arc::new(Disks::one("d", MemoryDisk::writable(size(MIB))));
    let (_server, address) = start(&disks);
    let mut client = connect(address, "d", STRUCTURED).unwrap();
    assert_eq!(client.write(65_536, &[7; 4096]), None);
    let status = client.command(Command::BlockStatus, 0, MIB as u32);
    assert_eq!(status.extents, [(65_536, 3), (4096, 0), (MIB as u32 - 69_632, 3)]);
    let one = RequestHeader {
        flags: command_flag::REQ_ONE,
        ..RequestHeader::new(Command::BlockStatus, 0, 65_536, 8192)
    };
    assert_eq!(client.call(one, &[]).extents, [(4096, 0)]);
}

#[test]
fn errors_have_their_numbers_and_leave_the_session_alive() {
    let disk = Arc::new(Failing::new(MemoryDisk::writable(size(MIB))));
    let disks = Arc::new(Disks::one("d", Shared(Arc::clone(&disk))));
    let (_server, address) = start(&disks);
    for wishes in [SIMPLE, STRUCTURED] {
        let mut client = connect(address, "d", wishes).unwrap();
        for (error, number) in [
            (BlockError::Io("bad".into()), ErrorNumber::Io),
            (BlockError::NoSpace, ErrorNumber::NoSpace),
            (BlockError::Closed, ErrorNumber::Shutdown),
        ] {
            let all = Some(error.clone());
            disk.set(Faults { reads: all.clone(), writes: all.clone(), flushes: all });
            assert_eq!(client.read(0, 512), Err(number));
            assert_eq!(client.write(0, &[1; 512]), Some(number));
            assert_eq!(client.command(Command::Flush, 0, 0).error, Some(number));
        }
        disk.set(Faults::default());
        assert_eq!(client.read(MIB as u64, 1), Err(ErrorNumber::Invalid));
        assert_eq!(client.write(MIB as u64 - 1, &[1, 2]), Some(ErrorNumber::NoSpace));
        assert_eq!(client.read(0, 33 << 20), Err(ErrorNumber::Invalid));
        assert!(client.read(0, 512).is_ok());
    }
}

#[test]
fn a_read_only_disk_refuses_writes_and_goes_on() {
    let disks = Arc::new(Disks::one("d", MemoryDisk::fixed(pattern(MIB))));
    let (_server, address) = start(&disks);
    let mut client = connect(address, "d", SIMPLE).unwrap();
    assert_ne!(client.export.flags & transmission_flag::READ_ONLY, 0);
    assert_eq!(client.write(0, &[1; 300_000]), Some(ErrorNumber::Perm));
    assert_eq!(client.command(Command::Trim, 0, 512).error, Some(ErrorNumber::Perm));
    assert_eq!(client.command(Command::Flush, 0, 0).error, None);
    assert_eq!(client.read(5, 100).unwrap(), pattern(MIB)[5..105]);
}

#[test]
fn an_unknown_name_is_an_error_and_an_event() {
    let disks = Arc::new(Disks::one("d", MemoryDisk::fixed(pattern(MIB))));
    let (server, address) = start(&disks);
    let error = connect(address, "other", SIMPLE).err().unwrap();
    assert!(error.to_string().contains("no export of that name"), "{error}");
    assert_eq!(*disks.refused.lock().unwrap(), ["other"]);
    assert!(server.sessions().is_empty());
}

#[test]
fn a_session_is_counted_while_it_lasts_and_summed_up_at_its_end() {
    let disks = Arc::new(Disks::one("d", MemoryDisk::fixed(pattern(MIB))));
    let (server, address) = start(&disks);
    let mut client = connect(address, "d", SIMPLE).unwrap();
    client.read(0, 4096).unwrap();
    client.read(0, 512).unwrap();
    assert_eq!(server.sessions().len(), 1);
    assert_eq!(server.stats().totals.read_bytes, 4608);
    drop(client);
    wait_until("the end of the session", || !disks.closed.lock().unwrap().is_empty());
    let (name, totals) = disks.closed.lock().unwrap()[0].clone();
    assert_eq!((name.as_str(), totals.requests, totals.read_bytes), ("d", 2, 4608));
    assert_eq!(server.stats().connections, 0);
}

#[test]
fn an_export_has_its_own_limit_of_connections() {
    let mut disks = Disks::one("d", MemoryDisk::fixed(pattern(MIB)));
    disks.max_connections = Some(2);
    let (_server, address) = start(&Arc::new(disks));
    let _first = connect(address, "d", SIMPLE).unwrap();
    let second = connect(address, "d", SIMPLE).unwrap();
    assert!(connect(address, "d", SIMPLE).is_err());
    drop(second);
    wait_until("room for another", || connect(address, "d", SIMPLE).is_ok());
}

#[test]
fn a_closed_export_ends_its_sessions_only() {
    let disks = Disks::one("a", MemoryDisk::fixed(pattern(MIB))).and("b", MemoryDisk::fixed(pattern(MIB)));
    let (server, address) = start(&Arc::new(disks));
    let mut a = connect(address, "a", SIMPLE).unwrap();
    let mut b = connect(address, "b", SIMPLE).unwrap();
    a.read(0, 512).unwrap();
    server.close_export("a");
    wait_until("the end of a", || a.send(RequestHeader::new(Command::Read, 0, 0, 512), &[]).is_err());
    assert!(b.read(0, 512).is_ok());
}

#[test]
fn a_graceful_stop_answers_what_is_under_way() {
    let slow = Delayed::new(MemoryDisk::fixed(pattern(MIB)), Duration::from_millis(300));
    let (server, address) = start(&Arc::new(Disks::one("d", slow)));
    let mut client = connect(address, "d", SIMPLE).unwrap();
    client.send(RequestHeader::new(Command::Read, 0, 10, 100), &[]).unwrap();
    // The request is in the server's hands when it counts it.
    wait_until("the request", || server.stats().totals.requests == 1);
    let stopping = std::thread::spawn(move || server.stop(PATIENCE));
    assert_eq!(client.next_answer().unwrap().1.bytes, pattern(MIB)[10..110]);
    assert!(client.next_answer().is_err());
    stopping.join().unwrap();
}

#[test]
fn a_slow_disk_does_not_hold_up_others() {
    let disks = Disks::one("slow", Delayed::new(MemoryDisk::fixed(pattern(MIB)), Duration::from_secs(2)))
        .and("fast", MemoryDisk::fixed(pattern(MIB)));
    let (_server, address) = start_with(&Arc::new(disks), |options| options.workers = 1);
    let mut slow = connect(address, "slow", SIMPLE).unwrap();
    for _ in 0..8 {
        slow.send(RequestHeader::new(Command::Read, 0, 0, 512), &[]).unwrap();
    }
    let mut fast = connect(address, "fast", SIMPLE).unwrap();
    let begun = Instant::now();
    (0..100).for_each(|i| drop(fast.read(i * 512, 512).unwrap()));
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[test]
fn a_unix_socket_serves_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nbd");
    let listener = UnixListener::bind(&path).unwrap();
    let disks = Arc::new(Disks::one("d", MemoryDisk::fixed(pattern(MIB))));
    let (_server, _) = start_with(&disks, |options| options.listeners.push(listener.into()));
    let mut client = Client::open(UnixStream::connect(&path).unwrap(), "d", STRUCTURED).unwrap();
    assert_eq!(client.read(7, 9).unwrap(), pattern(MIB)[7..16]);
}

#[test]
fn a_file_cut_short_under_the_server_ends_a_read_and_not_the_server() {
    let (disk, file) = file_disk(&pattern(4 * MIB));
    let disks = Disks::one("cut", disk).and("whole", MemoryDisk::fixed(pattern(MIB)));
    let (_server, address) = start(&Arc::new(disks));
    let mut cut = connect(address, "cut", SIMPLE).unwrap();
    cut.read(0, 4096).unwrap();
    file.set_len(0).unwrap();
    cut.send(RequestHeader::new(Command::Read, 0, 0, 4096), &[]).unwrap();
    // Where the head was sent before the page was missed, the session ends instead.
    if let Ok((_, answer)) = cut.next_answer() {
        assert_eq!(answer.error, Some(ErrorNumber::Io));
    }
    let mut whole = connect(address, "whole", SIMPLE).unwrap();
    assert!(whole.read(0, 4096).is_ok());
}

/// A disk that a test keeps a hand on.
struct Shared<D>(Arc<D>);

impl<D: disk::BlockIo> disk::BlockIo for Shared<D> {
    fn geometry(&self) -> disk::Geometry {
        self.0.geometry()
    }
    fn read_resident<'a>(&'a self, range: model::ByteRange, pieces: &mut Vec<disk::Piece<'a>>) -> bool {
        self.0.read_resident(range, pieces)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.0.write_at(offset, data)
    }
    fn flush(&self) -> Result<(), BlockError> {
        self.0.flush()
    }
    fn trim(&self, range: model::ByteRange) -> Result<(), BlockError> {
        self.0.trim(range)
    }
    fn write_zeroes(&self, range: model::ByteRange) -> Result<(), BlockError> {
        self.0.write_zeroes(range)
    }
    fn extents(&self, range: model::ByteRange, limit: usize) -> Result<Vec<disk::Extent>, BlockError> {
        self.0.extents(range, limit)
    }
    fn is_far(&self, range: model::ByteRange) -> bool {
        self.0.is_far(range)
    }

    fn prefetch(&self, range: model::ByteRange) {
        self.0.prefetch(range);
    }
}
