//! What sessions read on any server stays; of "boot" and "delete" at once one looks again.

use super::*;
use crate::key::Key;
use crate::reading::{Live, Reads};
use crate::record::Record;
use crate::rules::reading::{Earlier, MAX_READS, let_go, may_begin, publish as publish_after};

fn reads(number: u32, byte: u8, sessions: u32) -> Reads {
    let (vdisk, version, root) = (name("office"), VersionNumber(number), Root::from_bytes([byte; 32]));
    Reads { vdisk, version, root, store: name("default"), sessions }
}

fn publish(view: &FarmView, server: &Name, reads: &[Reads]) -> Result<Change, Refusal> {
    publish_after(view, server, reads, Earlier::Answered)
}

fn delete(view: &FarmView, number: u32) -> Result<Change, Refusal> {
    version::delete(view, &name("office"), VersionNumber(number), nobody(), &admin(9))
}

/// Version 1 in production on hw1, version 2 sealed there.
fn farm() -> Memory {
    let mut memory = Memory::of_three();
    memory.sealed(2);
    memory
}

#[test]
fn a_version_that_devices_read_on_another_server_is_not_deleted_and_the_server_is_named() {
    let mut memory = farm();
    memory.must(publish(&memory.view, &name("hw3"), &[reads(2, 2, 12)]));
    memory.must(publish(&memory.view, &name("hw2"), &[reads(2, 2, 1)]));
    let refused = delete(&memory.view, 2).unwrap_err();
    assert!(refused.message.contains("1 session on server hw2, 12 sessions on server hw3"), "{refused}");
    let refused = vdisk::delete(&memory.view, &name("office"), nobody()).unwrap_err();
    assert!(refused.message.contains("12 sessions on server hw3"), "{refused}");
    for server in ["hw2", "hw3"] {
        memory.must(publish(&memory.view, &name(server), &[]));
    }
    memory.must(delete(&memory.view, 2));
}

#[test]
fn of_a_session_and_a_deletion_at_once_one_looks_again() {
    let before = farm();
    let begin = publish(&before.view, &name("hw2"), &[reads(2, 2, 0)]).unwrap();
    let go = delete(&before.view, 2).unwrap();
    let mut memory = before.clone();
    assert!(memory.commit(begin.clone()) && !memory.commit(go.clone()));
    let refused = delete(&memory.view, 2).unwrap_err();
    assert!(refused.message.contains("server hw2, which may begin to"), "{refused}");
    let mut memory = before;
    assert!(memory.commit(go) && !memory.commit(begin));
    assert_eq!(may_begin(&memory.view, &reads(2, 2, 0)).unwrap_err().kind, RefusalKind::Changed);
}

#[test]
fn a_content_that_is_read_elsewhere_keeps_its_last_copy() {
    let mut memory = farm();
    let number = memory.create();
    let lease = memory.attach_on("hw1", number.0, None).unwrap();
    memory.must(draft::checkpoint(&memory.view, &lease, content(3), draft::SinceCheckpoint::Clean, at(5)));
    memory.must(publish(&memory.view, &name("hw2"), &[reads(number.0, 3, 1)]));
    // The next checkpoint: nothing names the one before any more, but a session reads it.
    memory.must(draft::checkpoint(&memory.view, &lease, content(4), draft::SinceCheckpoint::Clean, at(6)));
    let root = Root::from_bytes([3; 32]);
    assert!(!memory.view.names(root) && crate::roots_kept(&memory.view).contains(&root));
    let refused = copy::forget(&memory.view, root, &name("hw1")).unwrap_err();
    assert!(refused.message.contains("is read by devices"), "{refused}");
    memory.must(publish(&memory.view, &name("hw2"), &[]));
    memory.must(copy::forget(&memory.view, root, &name("hw1")));
}

#[test]
fn a_session_that_is_taken_up_on_what_nothing_names_stops_who_is_about_to_let_it_go() {
    let mut before = farm();
    before.must(delete(&before.view, 2));
    let forget = copy::forget(&before.view, Root::from_bytes([2; 32]), &name("hw1")).unwrap();
    let mut memory = before.clone();
    memory.must(publish(&memory.view, &name("hw2"), &[reads(2, 2, 1)]));
    assert!(!memory.commit(forget.clone()), "it must look again");
    assert!(before.commit(forget));
}

#[test]
fn what_was_taken_out_by_a_transaction_without_an_answer_is_not_taken_out_later() {
    let mut memory = farm();
    let (hw2, read) = (name("hw2"), [reads(2, 2, 1)]);
    memory.must(publish(&memory.view, &hw2, &read));
    let late = publish(&memory.view, &hw2, &[]).unwrap();
    assert_eq!(publish(&memory.view, &hw2, &read).unwrap(), Change::default());
    memory.must(publish_after(&memory.view, &hw2, &read, Earlier::MayCome));
    assert!(!memory.commit(late), "a session has begun since");
}

#[test]
fn a_dead_servers_record_goes_only_when_its_lease_has() {
    let mut memory = farm();
    memory.must(publish(&memory.view, &name("hw2"), &[reads(2, 2, 5)]));
    let live = Key::Live(name("hw2"));
    let announce = |memory: &mut Memory| {
        let alive = Write::Put(live.clone(), Live { revision: FormatRevision }.encode());
        assert!(memory.commit(Change { writes: vec![alive], ..Change::default() }));
    };
    announce(&mut memory);
    assert_eq!(let_go(&memory.view, &name("hw2")), Change::default(), "it is alive");
    assert!(memory.commit(Change { writes: vec![Write::Delete(live.clone())], ..Change::default() }));
    let gone = let_go(&memory.view, &name("hw2"));
    let mut back = memory.clone();
    announce(&mut back);
    assert!(!back.commit(gone.clone()), "it is back");
    assert!(memory.commit(gone));
    memory.must(delete(&memory.view, 2));
    assert_eq!(let_go(&memory.view, &name("hw2")), Change::default());
}

#[test]
fn many_additions_go_in_several_transactions_and_too_many_are_refused() {
    let mut memory = farm();
    let many: Vec<Reads> = (0..MAX_READS as u32).map(|number| reads(number + 10, 2, 1)).collect();
    let mut transactions = 0;
    loop {
        let change = publish(&memory.view, &name("hw2"), &many).unwrap();
        if change == Change::default() {
            break;
        }
        assert!(change.preconditions.len() <= 120 && change.writes.len() <= 120);
        assert!(memory.commit(change));
        transactions += 1;
    }
    assert!(transactions > 1 || memory.view.readings[&name("hw2")].reads.len() == MAX_READS);
    assert_eq!(memory.view.readings[&name("hw2")].reads.len(), MAX_READS);
    let too_many = [&many[..], &[reads(5, 5, 1)]].concat();
    assert_eq!(publish(&memory.view, &name("hw2"), &too_many).unwrap_err().kind, RefusalKind::Limit);
    assert_eq!(publish(&memory.view, &name("hw9"), &[]).unwrap_err().kind, RefusalKind::NotAllowed);
}

#[test]
fn the_records_are_stored_as_documented() {
    let mut memory = farm();
    memory.must(publish(&memory.view, &name("hw2"), &[reads(2, 2, 12), reads(1, 1, 0)]));
    let live = String::from_utf8(Live { revision: FormatRevision }.encode()).unwrap();
    let reading = String::from_utf8(memory.view.readings[&name("hw2")].record.encode()).unwrap();
    let (of_live, of_reading) = (Key::Live(name("hw2")), Key::Reading(name("hw2")));
    let written = format!("{of_live} {live}\n{of_reading} {reading}\n");
    assert_eq!(written, include_str!("../../../golden/reading-1.txt"), "what is written now:\n{written}");
}
