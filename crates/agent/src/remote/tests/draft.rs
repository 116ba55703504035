//! A draft's changes through servers that die, lose their memory, or want no more of them.

use super::*;
use std::sync::mpsc::Receiver;

fn draft(server: &TestServer) -> RemoteDisk {
    let mut target = RemoteTarget { access: Access::ReadWrite, ..target(&[server]) };
    // A flush may take long on a busy machine: no test here is about a server that says nothing.
    target.patience.stall = LONG;
    RemoteDisk::start(target).unwrap()
}

type Answer = Receiver<Result<Vec<u8>, BlockError>>;

fn call(disk: &RemoteDisk, offset: usize, len: usize, action: Action) -> Answer {
    let (send, receive) = mpsc::channel();
    let done: CallDone = Box::new(move |result| drop(send.send(result)));
    disk.submit(vec![RemoteCall { range: ByteRange::new(offset as u64, len as u64), action, done }]);
    receive
}

fn write(disk: &RemoteDisk, offset: usize, value: u8, len: usize) -> Answer {
    call(disk, offset, len, Action::Write { bytes: Arc::new(vec![value; len]), fua: false })
}

fn ends(answer: &Answer) -> Result<(), BlockError> {
    answer.recv_timeout(LONG).expect("it ends").map(drop)
}

#[test]
fn writes_trims_and_zeroes_reach_the_server() {
    let server = TestServer::start_draft(pattern(MIB));
    let disk = draft(&server);
    let mut expected = pattern(MIB);
    ends(&write(&disk, 1000, 5, 70_000)).unwrap();
    expected[1000..71_000].fill(5);
    ends(&call(&disk, 0, 512, Action::WriteZeroes { fua: true })).unwrap();
    expected[..512].fill(0);
    ends(&call(&disk, 2000, 3000, Action::Trim { fua: false })).unwrap();
    expected[2000..5000].fill(0);
    disk.flush_within(LONG).unwrap();
    assert!(server.bytes() == expected);
    assert!(read(&disk, 0, MIB).unwrap() == expected);
    assert_eq!(server.executed(), (3, 1));
}

#[test]
fn a_write_that_was_executed_and_not_answered_is_sent_again_in_its_order() {
    let server = TestServer::start_draft(vec![0; MIB]);
    let disk = draft(&server);
    assert!(disk.wait_connected(LONG));
    server.behave(Manner::CutOff);
    let answers: Vec<Answer> = (1..=20).map(|value| write(&disk, 4096, value, 4096)).collect();
    answers.iter().for_each(|answer| ends(answer).unwrap());
    assert_eq!(server.bytes()[4096..8192], [20; 4096]);
    assert!(disk.status().retries > 0);
}

#[test]
fn acknowledged_writes_survive_a_server_that_loses_its_memory() {
    let server = TestServer::start_draft(vec![0; MIB]);
    let disk = draft(&server);
    ends(&write(&disk, 0, 1, 65_536)).unwrap();
    disk.flush_within(LONG).unwrap();
    ends(&write(&disk, 4096, 2, 4096)).unwrap();
    ends(&write(&disk, 6000, 3, 100)).unwrap();
    ends(&call(&disk, 16_384, 4096, Action::Trim { fua: false })).unwrap();
    let expected = server.bytes();
    server.cut_power();
    assert!(read(&disk, 0, MIB).unwrap() == expected, "read only after everything was sent again");
    assert!(server.bytes() == expected);
}

#[test]
fn what_was_flushed_is_not_kept_and_not_sent_again() {
    let server = TestServer::start_draft(vec![0; MIB]);
    let disk = draft(&server);
    ends(&write(&disk, 0, 1, 65_536)).unwrap();
    disk.flush_within(LONG).unwrap();
    let before = server.executed();
    server.cut_power();
    read(&disk, 0, 512).unwrap();
    assert_eq!(server.executed(), before);
}

#[test]
fn unflushed_writes_take_bounded_memory() {
    let server = TestServer::start_draft(vec![0; 160 * MIB]);
    let disk = draft(&server);
    for number in 0..160 {
        ends(&write(&disk, number * MIB, 7, MIB)).unwrap();
        assert!(disk.shared.flight().unflushed_bytes() <= 65 << 20);
    }
    assert!(server.executed().1 >= 1, "the agent has asked for a flush by itself");
    assert!(server.bytes().iter().all(|byte| *byte == 7));
}

#[test]
fn a_refused_write_ends_all_writes_and_no_read() {
    let server = TestServer::start_draft(vec![9; MIB]);
    let disk = draft(&server);
    ends(&write(&disk, 0, 1, 4096)).unwrap();
    server.behave(Manner::Fenced);
    assert_eq!(ends(&write(&disk, 0, 2, 4096)), Err(BlockError::ReadOnly));
    server.behave(Manner::Honest);
    assert_eq!(ends(&write(&disk, 0, 3, 4096)), Err(BlockError::ReadOnly), "for good");
    assert!(matches!(disk.flush_within(LONG), Err(BlockError::ReadOnly)));
    assert_eq!(read(&disk, 0, 4096).unwrap(), [1; 4096]);
    assert!(disk.status().refused.is_some());
    assert_eq!(server.executed().0, 1, "nothing is sent again");
}

#[test]
fn a_draft_that_is_closed_for_good_is_not_asked_for_ever() {
    let server = TestServer::start_draft(vec![9; MIB]);
    let disk = draft(&server);
    server.behave(Manner::Closed);
    assert_eq!(ends(&write(&disk, 0, 2, 4096)), Err(BlockError::ReadOnly));
    assert!(server.connections() >= 8, "it may have been closed for a while only");
    assert!(disk.status().refused.is_some());
}

#[test]
fn a_draft_without_room_says_so_and_goes_on() {
    let server = TestServer::start_draft(vec![0; MIB]);
    let disk = draft(&server);
    assert!(disk.wait_connected(LONG));
    server.behave(Manner::Full);
    assert_eq!(ends(&write(&disk, 0, 2, 4096)), Err(BlockError::NoSpace));
    server.behave(Manner::Honest);
    assert_eq!(ends(&write(&disk, 0, 3, 4096)), Ok(()));
}

#[test]
fn a_session_that_is_gone_ends_the_disk() {
    let server = TestServer::start_draft(vec![0; MIB]);
    let disk = draft(&server);
    ends(&write(&disk, 0, 1, 4096)).unwrap();
    server.behave(Manner::Gone);
    server.hang_up();
    assert_eq!(ends(&write(&disk, 0, 2, 4096)), Err(BlockError::ReadOnly));
    assert!(matches!(read(&disk, 0, 512), Err(BlockError::Io(_) | BlockError::Closed)));
}

#[test]
fn a_server_that_opens_it_read_only_is_not_written_to() {
    let server = TestServer::start(vec![0; MIB]);
    let disk = draft(&server);
    assert_eq!(ends(&write(&disk, 0, 2, 4096)), Err(BlockError::ReadOnly));
}

#[test]
fn changes_under_way_survive_power_cuts_again_and_again() {
    let server = TestServer::start_draft(vec![0; 2 * MIB]);
    let disk = draft(&server);
    let enough = || server.connections() >= 10;
    std::thread::scope(|scope| {
        for writer in 0..4usize {
            let (disk, enough) = (&disk, &enough);
            scope.spawn(move || {
                let home = writer * MIB / 2;
                let mut model = vec![0; MIB / 2];
                for round in 1u32.. {
                    let (at, len) =
                        ((round as usize * 7919) % (MIB / 4), 1 + (round as usize * 613) % 20_000);
                    ends(&write(disk, home + at, round as u8, len)).unwrap();
                    model[at..at + len].fill(round as u8);
                    if round % 16 == 0 {
                        disk.flush_within(LONG).unwrap();
                    }
                    if round % 5 == 0 {
                        assert!(read(disk, home, MIB / 2).unwrap() == model, "round {round}");
                    }
                    if enough() && round > 20 {
                        assert!(read(disk, home, MIB / 2).unwrap() == model);
                        return;
                    }
                }
            });
        }
        while !enough() {
            server.cut_power();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
}
