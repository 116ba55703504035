//! The lease, the dirty record, checkpoints, the seal, and what is given up.

use super::*;
use crate::draft::OrphanState;
use crate::rules::draft::SinceCheckpoint::{Clean, Written};
use crate::rules::orphan::{self, Discard, Restore};
use crate::vdisk::VersionState;

/// A farm with draft 2, which device m-07 holds on hw1.
fn held() -> (Memory, Lease) {
    let mut memory = Memory::of_three();
    memory.create();
    let lease = memory.attach_on("hw1", 2, Some("m-07")).unwrap();
    (memory, lease)
}

/// The same, with acknowledged bytes that no checkpoint has.
fn dirty() -> (Memory, Lease) {
    let (mut memory, lease) = held();
    memory.must(draft::mark_dirty(&memory.view, &lease, at(5)));
    (memory, lease)
}

fn checkpoint(memory: &mut Memory, lease: &Lease, byte: u8) {
    memory.must(draft::checkpoint(&memory.view, lease, content(byte), Clean, at(6)));
}

fn discard() -> Discard {
    Discard {
        vdisk: name("office"),
        number: VersionNumber(2),
        server: name("hw1"),
        from_epoch: Epoch(1),
        to_epoch: Epoch(1),
    }
}

fn orphan_id() -> OrphanId {
    OrphanId { vdisk: name("office"), number: VersionNumber(2), epoch: Epoch(1) }
}

#[test]
fn a_second_machine_is_refused_with_the_holders_name_its_server_and_the_time() {
    let (mut memory, _) = held();
    let refused = memory.attach_on("hw1", 2, Some("m-08")).unwrap_err();
    let expected = "version 2 of vDisk office is held by device m-07 on server hw1 since 22:13 UTC";
    assert_eq!(refused.message, expected);
    assert!(refused.hint.contains("headwater version release office 2"), "{refused}");
    assert_eq!(refused.kind, RefusalKind::InUse);
}

#[test]
fn the_holders_own_reboot_gets_a_new_epoch_and_ends_the_old_one() {
    let (mut memory, old) = dirty();
    let new = memory.attach_on("hw1", 2, Some("m-07")).unwrap();
    assert_eq!((old.epoch, new.epoch), (Epoch(1), Epoch(2)));
    assert_eq!(kind(draft::mark_dirty(&memory.view, &old, at(6))), RefusalKind::Fenced);
    assert_eq!(kind(draft::checkpoint(&memory.view, &old, content(2), Clean, at(6))), RefusalKind::Fenced);
    assert_eq!(kind(draft::detach(&memory.view, &old)), RefusalKind::Fenced);
    assert_eq!(kind(draft::seal(&memory.view, &old, content(2), &admin(6))), RefusalKind::Fenced);
    let dirty = memory.draft(2).dirty.clone().unwrap();
    assert_eq!(
        (dirty.from_epoch, dirty.server),
        (Epoch(1), name("hw1")),
        "what epoch 1 wrote is still noted"
    );
}

#[test]
fn two_seals_or_sessions_of_a_server_at_once_are_not_one_holder() {
    let mut memory = Memory::of_three();
    memory.create();
    memory.attach_on("hw1", 2, None).unwrap();
    let refused = memory.attach_on("hw1", 2, None).unwrap_err();
    assert!(refused.message.contains("held by server hw1 itself"), "{refused}");
}

#[test]
fn two_machines_that_attach_at_once_get_one_lease() {
    let mut memory = Memory::of_three();
    memory.create();
    memory.hydrate("hw2", 1);
    let attach = |server: &str, device: &str| Attach {
        vdisk: name("office"),
        number: VersionNumber(2),
        server: name(server),
        device: Some(name(device)),
    };
    let (one, _) = draft::attach(&memory.view, &attach("hw1", "m-07"), at(4)).unwrap();
    let (two, _) = draft::attach(&memory.view, &attach("hw2", "m-08"), at(4)).unwrap();
    assert!(memory.commit(one) && !memory.commit(two));
}

#[test]
fn a_server_without_the_last_checkpoint_is_refused_and_those_with_it_are_named() {
    let mut memory = Memory::of_three();
    memory.create();
    let refused = memory.attach_on("hw2", 2, Some("m-07")).unwrap_err();
    assert!(refused.message.contains("does not have the last checkpoint"), "{refused}");
    assert!(refused.hint.contains("hw1"), "{refused}");
    memory.hydrate("hw2", 1);
    memory.attach_on("hw2", 2, Some("m-07")).unwrap();
}

#[test]
fn where_a_server_has_unsaved_changes_only_that_server_goes_on() {
    let (mut memory, lease) = dirty();
    memory.hydrate("hw2", 1);
    for release in [false, true] {
        if release {
            memory.must(draft::release(&memory.view, &name("office"), VersionNumber(2), &admin(7)));
        }
        let refused = memory.attach_on("hw2", 2, Some("m-07")).unwrap_err();
        assert!(refused.message.contains("server hw1 has had changes of version 2"), "{refused}");
        assert!(refused.hint.contains("headwater version discard office 2"), "{refused}");
    }
    assert_eq!(kind(draft::mark_dirty(&memory.view, &lease, at(8))), RefusalKind::Fenced, "it was released");
    let lease = memory.attach_on("hw1", 2, Some("m-07")).unwrap();
    checkpoint(&mut memory, &lease, 2);
    memory.hydrate("hw2", 2);
    memory.attach_on("hw2", 2, Some("m-07")).unwrap();
}

#[test]
fn a_checkpoint_is_the_versions_content_and_a_copy_of_its_server() {
    let (mut memory, lease) = dirty();
    checkpoint(&mut memory, &lease, 2);
    let root = content(2).root;
    assert_eq!((memory.version(2).root, memory.draft(2).checkpoint), (root, root));
    assert!(memory.draft(2).dirty.is_none());
    assert!(copy::has(&memory.view, root, &name("hw1")).is_some());
    assert_eq!(memory.draft(2).epoch, lease.epoch, "the writer goes on");
}

#[test]
fn bytes_are_alone_until_another_server_has_a_checkpoint_with_them() {
    let (mut memory, lease) = held();
    memory.hydrate("hw2", 1);
    let alone = |memory: &Memory| draft::alone_since(&memory.view, memory.draft(2));
    assert_eq!(alone(&memory), None);
    memory.must(draft::mark_dirty(&memory.view, &lease, at(5)));
    assert_eq!(alone(&memory), Some(at(5)));
    checkpoint(&mut memory, &lease, 2);
    assert_eq!(alone(&memory), Some(at(5)), "the checkpoint is on one server only");
    memory.must(draft::mark_dirty(&memory.view, &lease, at(7)));
    checkpoint(&mut memory, &lease, 3);
    assert_eq!(alone(&memory), Some(at(5)), "nobody else had the one before");
    memory.hydrate("hw2", 3);
    assert_eq!(alone(&memory), None);
    memory.must(draft::mark_dirty(&memory.view, &lease, at(8)));
    assert_eq!(alone(&memory), Some(at(8)));
    assert_eq!(draft::able_servers(&memory.view, memory.draft(2)), [name("hw1")]);
}

#[test]
fn what_is_written_while_a_checkpoint_is_cut_stays_noted() {
    let (mut memory, old) = dirty();
    let lease = memory.attach_on("hw1", 2, Some("m-07")).unwrap();
    memory.must(draft::checkpoint(&memory.view, &lease, content(2), Written, at(6)));
    assert_eq!(memory.draft(2).dirty.as_ref().unwrap().from_epoch, lease.epoch);
    assert!(lease.epoch > old.epoch, "what the old epoch wrote is in the checkpoint");
}

#[test]
fn marking_again_makes_a_clean_checkpoint_void_that_was_sent_before() {
    let (mut memory, lease) = dirty();
    let sent = draft::checkpoint(&memory.view, &lease, content(2), Clean, at(6)).unwrap();
    let again = draft::mark_dirty(&memory.view, &lease, at(7)).unwrap();
    assert!(again.events.is_empty());
    memory.must(Ok(again));
    assert_eq!(memory.draft(2).dirty.as_ref().unwrap().since, at(5), "since when there are bytes");
    assert!(!memory.commit(sent), "it does not know of what is written now");
}

#[test]
fn marking_proves_the_epoch() {
    let (mut memory, lease) = dirty();
    let again = draft::mark_dirty(&memory.view, &lease, at(6)).unwrap();
    memory.attach_on("hw1", 2, Some("m-07")).unwrap();
    assert!(!memory.commit(again), "the epoch has passed meanwhile");
}

#[test]
fn a_device_that_leaves_without_a_checkpoint_leaves_its_server_noted() {
    let (mut memory, lease) = dirty();
    memory.must(draft::detach(&memory.view, &lease));
    assert!(memory.draft(2).holder.is_none() && memory.draft(2).dirty.is_some());
    assert_eq!(kind(draft::detach(&memory.view, &lease)), RefusalKind::Fenced);
}

#[test]
fn a_seal_waits_for_the_device_and_ends_the_draft_for_ever() {
    let (mut memory, lease) = dirty();
    let refused = draft::seal(&memory.view, &lease, content(2), &admin(6)).unwrap_err();
    assert!(refused.message.contains("being written by device m-07"), "{refused}");
    checkpoint(&mut memory, &lease, 2);
    memory.must(draft::detach(&memory.view, &lease));
    let own = memory.attach_on("hw1", 2, None).unwrap();
    memory.must(draft::seal(&memory.view, &own, content(3), &admin(7)));
    let version = memory.version(2);
    assert_eq!((version.state, version.root), (VersionState::Sealed, content(3).root));
    assert_eq!(version.sealed, Some(admin(7)));
    assert!(memory.view.drafts.is_empty());
    let refused = memory.attach_on("hw1", 2, Some("m-07")).unwrap_err();
    assert!(refused.message.contains("is sealed and cannot be written"), "{refused}");
    assert_eq!(kind(draft::mark_dirty(&memory.view, &own, at(8))), RefusalKind::Fenced);
}

#[test]
fn discarding_needs_the_exact_server_and_epochs() {
    let (mut memory, _) = dirty();
    memory.attach_on("hw1", 2, Some("m-07")).unwrap();
    let wrong = orphan::discard(&memory.view, &discard(), &admin(6)).unwrap_err();
    assert_eq!(wrong.kind, RefusalKind::Changed);
    assert!(wrong.message.contains("server hw1 in epochs 1 to 2"), "{wrong}");
    let shown = orphan::discardable(&memory.view, &name("office"), VersionNumber(2)).unwrap();
    assert_eq!(shown, Discard { to_epoch: Epoch(2), ..discard() });
    memory.must(orphan::discard(&memory.view, &shown, &admin(6)));
    assert_eq!(memory.draft(2).epoch, Epoch(3), "whoever held it is fenced");
    assert!(memory.draft(2).dirty.is_none() && memory.draft(2).holder.is_none());
}

#[test]
fn without_unsaved_changes_there_is_nothing_to_discard() {
    let (memory, _) = held();
    assert_eq!(kind(orphan::discard(&memory.view, &discard(), &admin(6))), RefusalKind::Invalid);
}

#[test]
fn discarded_bytes_are_put_aside_before_their_server_writes_the_draft_again() {
    let (mut memory, _) = dirty();
    memory.hydrate("hw2", 1);
    memory.must(orphan::discard(&memory.view, &discard(), &admin(6)));
    let kept = &memory.view.orphans[&orphan_id()];
    assert_eq!((kept.draft.as_str(), kept.checkpoint), ("office.2.e1", content(1).root));
    assert_eq!(orphan::claimed_from(&memory.view, &name("hw1")).count(), 1);
    let refused = memory.attach_on("hw1", 2, Some("m-07")).unwrap_err();
    assert!(refused.message.contains("not yet put aside"), "{refused}");
    let lease = memory.attach_on("hw2", 2, Some("m-07")).unwrap();
    memory.must(draft::detach(&memory.view, &lease));
    memory.must(orphan::settle(&memory.view, &orphan_id(), OrphanState::Kept));
    memory.attach_on("hw1", 2, Some("m-07")).unwrap();
}

#[test]
fn discarded_bytes_become_a_vdisk_of_their_own_or_are_deleted() {
    let (mut memory, _) = dirty();
    memory.must(orphan::discard(&memory.view, &discard(), &admin(6)));
    let restore = || Restore { id: orphan_id(), name: name("rescued"), content: content(9) };
    assert_eq!(kind(orphan::restore(&memory.view, restore(), &admin(7))), RefusalKind::Invalid);
    memory.must(orphan::settle(&memory.view, &orphan_id(), OrphanState::Kept));
    let mut deleted = memory.clone();
    deleted.must(orphan::delete(&deleted.view, &orphan_id(), &admin(7)));
    memory.must(orphan::restore(&memory.view, restore(), &admin(7)));
    for memory in [&deleted, &memory] {
        assert!(memory.view.orphans.is_empty());
    }
    let version = memory.view.version(&name("rescued"), VersionNumber(1)).unwrap();
    assert_eq!((version.root, version.access), (content(9).root, model::AccessMode::Test));
    assert!(memory.view.vdisks[&name("rescued")].production.is_none(), "somebody looks at it first");
}

#[test]
fn content_stays_in_use_as_long_as_a_version_a_draft_or_an_orphan_needs_it() {
    let (mut memory, lease) = dirty();
    checkpoint(&mut memory, &lease, 2);
    memory.must(draft::mark_dirty(&memory.view, &lease, at(7)));
    memory.must(orphan::discard(&memory.view, &discard(), &admin(8)));
    let roots = |memory: &Memory| crate::roots_in_use(&memory.view);
    assert_eq!(roots(&memory), BTreeSet::from([content(1).root, content(2).root]));
    let own = memory.view.draft(&name("office"), VersionNumber(2)).unwrap().epoch;
    assert_eq!(own, Epoch(2));
    memory.must(version::delete(&memory.view, &name("office"), VersionNumber(2), nobody(), &admin(9)));
    assert_eq!(
        roots(&memory),
        BTreeSet::from([content(1).root, content(2).root]),
        "the orphan lies above it"
    );
    assert!(memory.view.doomed.contains_key(&content(2).root) && memory.view.names(content(2).root));
    memory.must(orphan::delete(&memory.view, &orphan_id(), &admin(10)));
    assert_eq!(roots(&memory), BTreeSet::from([content(1).root]));
}

#[test]
fn the_last_complete_copy_of_what_is_needed_is_not_let_go() {
    let mut memory = Memory::of_three();
    let root = content(1).root;
    let go = |memory: &Memory, server: &str, confirmed: &str| {
        copy::forget_one_of_several(&memory.view, root, &name(server), &name(confirmed))
    };
    for confirmed in ["hw1", "hw2"] {
        let refused = go(&memory, "hw1", confirmed).unwrap_err();
        assert!(refused.message.contains("the last complete copy"), "{refused}");
    }
    memory.hydrate("hw2", 1);
    assert_eq!(kind(copy::forget(&memory.view, root, &name("hw1"))), RefusalKind::InUse);
    let (one, two) = (go(&memory, "hw1", "hw2").unwrap(), go(&memory, "hw2", "hw1").unwrap());
    assert!(memory.commit(one) && !memory.commit(two), "each relies on the other's");
}

#[test]
fn a_server_that_lets_unneeded_content_go_hears_of_who_begins_to_need_it() {
    let mut memory = Memory::of_three();
    memory.hydrate("hw2", 7);
    let forget = copy::forget(&memory.view, content(7).root, &name("hw2")).unwrap();
    memory.import("lab", 7);
    assert!(!memory.commit(forget), "vDisk lab has this content now, and counts hw2's copy");
    assert_eq!(kind(copy::forget(&memory.view, content(7).root, &name("hw2"))), RefusalKind::InUse);
}

#[test]
fn a_server_whose_view_is_older_than_its_own_seal_does_not_let_that_content_go() {
    let mut memory = Memory::of_three();
    let forget = copy::forget(&memory.view, content(7).root, &name("hw1")).unwrap();
    memory.import("lab", 7);
    assert!(!memory.commit(forget), "hw1 has published this content since");
}

#[test]
fn a_server_says_what_it_has_and_what_it_has_lost() {
    let mut memory = Memory::of_three();
    let has = BTreeSet::from([content(5).root]);
    let change = copy::report(&memory.view, &name("hw1"), &has, at(5));
    assert!(memory.commit(change));
    assert!(copy::has(&memory.view, content(1).root, &name("hw1")).is_none());
    assert!(copy::has(&memory.view, content(5).root, &name("hw1")).is_some());
    assert_eq!(copy::report(&memory.view, &name("hw1"), &has, at(6)), Change::default());
}
