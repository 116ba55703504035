//! Promotion, gates, revert, pins, and letting go.

use super::*;
use crate::rules::gate;
use crate::rules::version::{
    Branch, CopyRule, Pin, PinScope, Promote, PromoteTo, Revert, Seen, When, branch, comment, delete, merge,
    pin, promote, retire, revert, unpin,
};
use crate::vdisk::{Gate, VersionState};
use model::AccessMode;

fn office() -> Name {
    name("office")
}

fn to_production(memory: &Memory, number: VersionNumber, when: When) -> Promote {
    let production = memory.view.vdisks[&office()].production;
    let root = memory.version(number.0).root;
    Promote { vdisk: office(), number, to: PromoteTo::Production(when), seen: Seen { root, production } }
}

fn at_once() -> When {
    When::Now(CopyRule::AtLeast(1))
}

fn to_test(memory: &Memory, number: VersionNumber) -> Promote {
    Promote { to: PromoteTo::Test, ..to_production(memory, number, at_once()) }
}

fn back(to: Option<u32>, seen: u32) -> Revert {
    let (to, seen) = (to.map(VersionNumber), Some(VersionNumber(seen)));
    Revert { vdisk: office(), to, seen, copies: CopyRule::AtLeast(1) }
}

impl Memory {
    fn promote_now(&mut self, number: VersionNumber) {
        self.must(promote(&self.view, &to_production(self, number, at_once()), &admin(5)));
    }

    fn promote_when(&mut self, number: VersionNumber, gate: Gate) {
        self.must(promote(&self.view, &to_production(self, number, When::Gate(gate)), &admin(5)));
    }

    fn access(&self, number: u32) -> AccessMode {
        self.version(number).access
    }
}

#[test]
fn a_version_goes_from_maintenance_to_test_to_production() {
    let mut memory = Memory::of_three();
    let number = memory.create();
    assert_eq!(number, VersionNumber(2));
    let version = memory.version(2);
    assert_eq!((version.access, version.state), (AccessMode::Maintenance, VersionState::Draft));
    assert_eq!((version.parent, version.root), (Some(VersionNumber(1)), content(1).root));
    let refused = promote(&memory.view, &to_test(&memory, number), &admin(4)).unwrap_err();
    assert!(refused.message.contains("version 2 of vDisk office is not sealed"), "{refused}");
    assert!(refused.hint.contains("headwater version seal office 2"), "{refused}");
    let lease = memory.attach_on("hw1", 2, None).unwrap();
    memory.must(draft::seal(&memory.view, &lease, content(2), &admin(4)));
    memory.must(promote(&memory.view, &to_test(&memory, number), &admin(5)));
    assert_eq!((memory.access(2), memory.production()), (AccessMode::Test, 1));
    memory.promote_now(number);
    assert_eq!((memory.access(2), memory.production()), (AccessMode::Production, 2));
    assert_eq!(memory.access(1), AccessMode::Production, "it may be reverted to");
}

#[test]
fn what_is_promoted_is_what_the_admin_saw() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    let command = to_production(&memory, number, at_once());
    let other = Seen { root: content(9).root, ..command.seen };
    let refused = promote(&memory.view, &Promote { seen: other, ..command.clone() }, &admin(5));
    assert_eq!(kind(refused), RefusalKind::Changed);
    let third = memory.sealed(3);
    memory.promote_now(third);
    let refused = promote(&memory.view, &command, &admin(6)).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Changed);
    assert!(
        refused.message.contains("version 3 of vDisk office is in production now, not version 1"),
        "{refused}"
    );
}

#[test]
fn of_two_promotions_at_once_one_wins_and_one_is_told() {
    let mut before = Memory::of_three();
    let (two, three) = (before.sealed(2), before.sealed(3));
    let now = |number| to_production(&before, number, at_once());
    let later = |number| to_production(&before, number, When::Gate(Gate::Copies(2)));
    for (first, second) in [(now(two), now(three)), (now(two), later(three)), (later(two), later(three))] {
        let mut memory = before.clone();
        let (one, other) =
            (promote(&memory.view, &first, &admin(5)), promote(&memory.view, &second, &admin(5)));
        memory.must(one);
        assert!(!memory.commit(other.unwrap()));
        assert!(promote(&memory.view, &second, &admin(6)).is_err(), "asked again, it is refused");
    }
}

#[test]
fn a_version_that_no_server_has_is_not_promoted_unless_the_admin_says_so() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    let two = to_production(&memory, number, When::Now(CopyRule::AtLeast(2)));
    let refused = promote(&memory.view, &two, &admin(5)).unwrap_err();
    assert!(refused.message.contains("1 servers have version 2"), "{refused}");
    let lost = copy::report(&memory.view, &name("hw1"), &BTreeSet::new(), at(5));
    assert!(memory.commit(lost));
    assert_eq!(
        kind(promote(&memory.view, &to_production(&memory, number, at_once()), &admin(6))),
        RefusalKind::InUse
    );
    let force = to_production(&memory, number, When::Now(CopyRule::Override));
    memory.must(promote(&memory.view, &force, &admin(6)));
    assert_eq!(memory.production(), 2);
}

#[test]
fn a_copy_that_is_let_go_at_the_same_time_stops_the_promotion() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    memory.hydrate("hw2", 2);
    let two = to_production(&memory, number, When::Now(CopyRule::AtLeast(2)));
    let change = promote(&memory.view, &two, &admin(5)).unwrap();
    memory.must(copy::forget_one_of_several(&memory.view, content(2).root, &name("hw2"), &name("hw1")));
    assert!(!memory.commit(change));
}

#[test]
fn a_gate_opens_at_its_date() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    memory.promote_when(number, Gate::At(at(100)));
    assert_eq!((memory.access(2), memory.production()), (AccessMode::Pending, 1));
    assert!(gate::open(&memory.view, at(99)).is_none());
    let change = gate::open(&memory.view, at(100)).unwrap();
    assert!(memory.commit(change));
    assert_eq!((memory.access(2), memory.production()), (AccessMode::Production, 2));
    assert!(memory.version(2).gate.is_none());
    assert!(gate::open(&memory.view, at(101)).is_none());
}

#[test]
fn a_gate_opens_when_enough_servers_have_it_and_says_which_have_not() {
    for (gate, wanted) in [(Gate::Copies(2), 2), (Gate::AllServers, 3)] {
        let mut memory = Memory::of_three();
        let number = memory.sealed(2);
        memory.promote_when(number, gate);
        let missing = gate::missing(&memory.view, memory.version(2));
        assert_eq!((missing.copies_wanted, missing.copies()), (wanted, 1));
        let without: Vec<_> = missing.servers.iter().filter(|(_, since)| since.is_none()).collect();
        assert_eq!(without, [&(name("hw2"), None), &(name("hw3"), None)]);
        for server in ["hw2", "hw3"].iter().take(wanted as usize - 1) {
            assert!(gate::open(&memory.view, at(9)).is_none());
            memory.hydrate(server, 2);
        }
        let change = gate::open(&memory.view, at(9)).unwrap();
        assert!(memory.commit(change));
        assert_eq!(memory.production(), 2);
    }
}

#[test]
fn a_gate_that_is_open_already_needs_no_waiting_and_one_that_cannot_open_is_refused() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    let never = to_production(&memory, number, When::Gate(Gate::Copies(4)));
    assert_eq!(kind(promote(&memory.view, &never, &admin(5))), RefusalKind::Invalid);
    memory.promote_when(number, Gate::Copies(1));
    assert_eq!(memory.production(), 2);
}

#[test]
fn a_server_that_joins_the_store_while_a_gate_opens_is_waited_for() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    memory.promote_when(number, Gate::AllServers);
    memory.hydrate("hw2", 2);
    memory.hydrate("hw3", 2);
    let change = gate::open(&memory.view, at(9)).unwrap();
    let stores = BTreeMap::from([(name("default"), "/srv".to_owned())]);
    let starts = ServerStarts { server: name("hw4"), stores, new_token_hash: None };
    assert!(memory.commit(server_starts(&memory.view, starts, at(9))));
    assert!(!memory.commit(change));
    assert!(gate::open(&memory.view, at(9)).is_none());
}

#[test]
fn a_promotion_that_waits_is_taken_back_or_cancelled_when_the_pointer_moves() {
    let mut memory = Memory::of_three();
    let (two, three) = (memory.sealed(2), memory.sealed(3));
    memory.promote_when(two, Gate::At(at(100)));
    let refused =
        promote(&memory.view, &to_production(&memory, three, When::Gate(Gate::AllServers)), &admin(6));
    assert_eq!(kind(refused), RefusalKind::InUse);
    memory.must(promote(&memory.view, &to_test(&memory, two), &admin(6)));
    assert_eq!(memory.access(2), AccessMode::Test);
    memory.promote_when(two, Gate::At(at(100)));
    let change = promote(&memory.view, &to_production(&memory, three, at_once()), &admin(7)).unwrap();
    assert!(change.events.iter().any(|event| event.kind == EventKind::PromotionCancelled));
    assert!(memory.commit(change));
    assert_eq!((memory.access(2), memory.production()), (AccessMode::Test, 3));
    assert!(gate::open(&memory.view, at(100)).is_none());
}

#[test]
fn a_gate_that_opens_while_its_promotion_is_taken_back_stays_closed() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    memory.promote_when(number, Gate::At(at(100)));
    let opens = gate::open(&memory.view, at(100)).unwrap();
    memory.must(promote(&memory.view, &to_test(&memory, number), &admin(100)));
    assert!(!memory.commit(opens));
}

#[test]
fn a_revert_puts_the_earlier_version_back_and_the_bad_one_in_test() {
    let mut memory = Memory::of_three();
    assert_eq!(kind(revert(&memory.view, &back(None, 1), &admin(5))), RefusalKind::Invalid);
    let (two, three) = (memory.sealed(2), memory.sealed(3));
    memory.promote_now(two);
    memory.promote_now(three);
    assert_eq!(kind(revert(&memory.view, &back(None, 2), &admin(6))), RefusalKind::Changed);
    let never = memory.sealed(4);
    assert_eq!(kind(revert(&memory.view, &back(Some(never.0), 3), &admin(6))), RefusalKind::Invalid);
    memory.must(revert(&memory.view, &back(None, 3), &admin(6)));
    assert_eq!((memory.production(), memory.access(3)), (2, AccessMode::Test));
    memory.must(revert(&memory.view, &back(Some(1), 2), &admin(7)));
    assert_eq!((memory.production(), memory.access(2)), (1, AccessMode::Test));
    memory.promote_now(three);
    assert_eq!(memory.production(), 3);
}

#[test]
fn versions_are_made_of_sealed_versions_in_test_or_production() {
    let mut memory = Memory::of_three();
    let draft = memory.create();
    let from = |memory: &Memory, number: VersionNumber| {
        version::create(&memory.view, create(Some(number.0)), &admin(6))
    };
    assert!(from(&memory, draft).unwrap_err().hint.contains("version seal office 2"));
    let sealed = memory.sealed(3);
    assert!(from(&memory, sealed).unwrap_err().hint.contains("promote office 3 --to test"));
    memory.must(promote(&memory.view, &to_test(&memory, sealed), &admin(5)));
    memory.must(from(&memory, sealed));
    assert_eq!(memory.version(4).parent, Some(sealed));
    memory.must(from(&memory, sealed));
    assert_eq!(memory.view.drafts.len(), 3, "several may be written at once");
    assert_eq!(kind(from(&memory, VersionNumber(99))), RefusalKind::NotFound);
}

#[test]
fn numbers_are_never_used_twice() {
    let mut memory = Memory::of_three();
    let two = memory.create();
    let change = version::create(&memory.view, create(None), &admin(3)).unwrap();
    let same = version::create(&memory.view, create(None), &admin(3)).unwrap();
    assert!(memory.commit(change) && !memory.commit(same));
    memory.must(delete(&memory.view, &office(), VersionNumber(3), nobody(), &admin(4)));
    memory.must(delete(&memory.view, &office(), two, nobody(), &admin(4)));
    assert_eq!(memory.create(), VersionNumber(4));
}

#[test]
fn what_is_in_use_is_neither_retired_nor_deleted_and_the_user_is_named() {
    let mut memory = Memory::of_three();
    let gone = |memory: &Memory, number: u32| {
        let number = VersionNumber(number);
        let refused = delete(&memory.view, &office(), number, nobody(), &admin(6)).unwrap_err();
        assert!(!refused.hint.is_empty());
        (refused.message, retire(&memory.view, &office(), number, &admin(6)).is_err())
    };
    assert!(gone(&memory, 1).0.contains("it is in production"));
    let number = memory.sealed(2);
    memory.promote_when(number, Gate::At(at(100)));
    let (why, retire_refused) = gone(&memory, 2);
    assert!(why.contains("waits for its promotion") && retire_refused, "{why}");
    memory.must(promote(&memory.view, &to_test(&memory, number), &admin(6)));
    memory.add(mac(1), Some("kiosk"));
    let scope = PinScope::Device(name("kiosk"));
    memory.must(pin(&memory.view, &Pin { scope: scope.clone(), vdisk: office(), number }, &admin(6)));
    let (why, retire_refused) = gone(&memory, 2);
    assert!(why.contains("pinned for device kiosk") && retire_refused, "{why}");
    memory.must(unpin(&memory.view, &scope, &office(), &admin(6)));
    memory.must(version::create(&memory.view, create(Some(2)), &admin(6)));
    assert!(gone(&memory, 2).0.contains("draft 3 was made from it"));
    let lease = memory.attach_on("hw1", 3, Some("m-07")).unwrap();
    assert!(gone(&memory, 3).0.contains("held by device m-07"));
    memory.must(draft::mark_dirty(&memory.view, &lease, at(7)));
    assert!(gone(&memory, 3).0.contains("server hw1 has had changes"));
    let sessions = ["m-09".to_owned()];
    let why = delete(&memory.view, &office(), number, Here { sessions: &sessions, ..nobody() }, &admin(7))
        .unwrap_err()
        .message;
    assert!(why.contains("open sessions read it: m-09"), "{why}");
}

#[test]
fn a_retired_version_is_booted_by_nobody_and_comes_back_by_test() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    memory.must(retire(&memory.view, &office(), number, &admin(6)));
    assert_eq!(memory.access(2), AccessMode::Retired);
    assert_eq!(memory.version(2).retired, Some(admin(6)));
    assert_eq!(
        kind(promote(&memory.view, &to_production(&memory, number, at_once()), &admin(6))),
        RefusalKind::Invalid
    );
    assert_eq!(
        kind(pin(&memory.view, &Pin { scope: PinScope::VDisk, vdisk: office(), number }, &admin(6))),
        RefusalKind::Invalid
    );
    memory.must(promote(&memory.view, &to_test(&memory, number), &admin(7)));
    assert!(memory.version(2).retired.is_none());
    memory.must(retire(&memory.view, &office(), number, &admin(8)));
    memory.must(delete(&memory.view, &office(), number, nobody(), &admin(9)));
    assert!(memory.view.doomed.contains_key(&content(2).root));
}

#[test]
fn pinning_and_deleting_at_once_never_leaves_a_pin_of_nothing() {
    let mut before = Memory::of_three();
    let number = before.sealed(2);
    before.add(mac(1), Some("kiosk"));
    for scope in [PinScope::VDisk, PinScope::Collection(name("default")), PinScope::Device(name("kiosk"))] {
        let pin = pin(&before.view, &Pin { scope, vdisk: office(), number }, &admin(6)).unwrap();
        let delete = delete(&before.view, &office(), number, nobody(), &admin(6)).unwrap();
        for (first, second) in [(pin.clone(), delete.clone()), (delete, pin)] {
            let mut memory = before.clone();
            assert!(memory.commit(first) && !memory.commit(second));
        }
    }
}

#[test]
fn a_branch_is_a_new_vdisk_with_the_same_content() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    let command =
        |new: &str, number| Branch { vdisk: office(), number, name: name(new), comment: "try".to_owned() };
    memory.must(crate::rules::vdisk::set_hooks(&memory.view, &office(), vec![name("kms")]));
    memory.must(branch(&memory.view, command("lab", number), &admin(6)));
    assert_eq!(memory.view.vdisks[&name("lab")].hooks, [name("kms")]);
    let version = memory.view.version(&name("lab"), VersionNumber(1)).unwrap();
    assert_eq!((version.root, version.access), (content(2).root, AccessMode::Production));
    assert_eq!(version.origin.as_ref().unwrap().number, number);
    assert_eq!(memory.view.production_of(&name("lab")).unwrap().number, VersionNumber(1));
    assert_eq!(kind(branch(&memory.view, command("lab", number), &admin(6))), RefusalKind::Exists);
    let draft = memory.create();
    assert_eq!(kind(branch(&memory.view, command("new", draft), &admin(6))), RefusalKind::Invalid);
    memory.must(delete(&memory.view, &office(), number, nobody(), &admin(7)));
    assert!(memory.view.doomed.is_empty(), "vDisk lab has the content still");
    assert!(crate::roots_in_use(&memory.view).contains(&content(2).root));
}

#[test]
fn branching_and_deleting_at_once_never_leaves_a_vdisk_of_nothing() {
    let mut before = Memory::of_three();
    let number = before.sealed(2);
    let command = Branch { vdisk: office(), number, name: name("lab"), comment: String::new() };
    let branch = branch(&before.view, command, &admin(6)).unwrap();
    let delete = delete(&before.view, &office(), number, nobody(), &admin(6)).unwrap();
    for branch_first in [true, false] {
        let mut memory = before.clone();
        let (first, second) = if branch_first { (&branch, &delete) } else { (&delete, &branch) };
        assert!(memory.commit(first.clone()));
        let both = memory.commit(second.clone());
        assert_eq!(both, branch_first, "a deletion may follow, the content has a second name");
        assert!(!both || memory.view.names(content(2).root));
    }
}

#[test]
fn a_merge_marks_a_sealed_version_and_changes_no_content() {
    let mut memory = Memory::of_three();
    let number = memory.sealed(2);
    memory.must(merge(&memory.view, &office(), number, &admin(6)));
    assert_eq!((memory.version(2).root, memory.version(2).merged.clone()), (content(2).root, Some(admin(6))));
    assert_eq!(kind(merge(&memory.view, &office(), number, &admin(7))), RefusalKind::Exists);
    let draft = memory.create();
    assert_eq!(kind(merge(&memory.view, &office(), draft, &admin(7))), RefusalKind::Invalid);
    assert!(memory.version(draft.0).merged.is_none(), "a child of a base is none");
}

#[test]
fn a_comment_is_changed_and_bounded() {
    let mut memory = Memory::of_three();
    memory.must(comment(&memory.view, &office(), VersionNumber(1), "good".to_owned(), &admin(6)));
    assert_eq!(memory.version(1).comment, "good");
    let long = "x".repeat(version::MAX_COMMENT + 1);
    assert_eq!(kind(comment(&memory.view, &office(), VersionNumber(1), long, &admin(6))), RefusalKind::Limit);
}

#[test]
fn a_vdisk_at_its_limits_is_deleted_in_one_transaction() {
    let mut memory = Memory::of_three();
    for _ in 0..version::MAX_DRAFTS {
        memory.create();
    }
    assert_eq!(kind(version::create(&memory.view, create(None), &admin(3))), RefusalKind::Limit);
    for number in 0..version::MAX_DRAFTS {
        let number = u32::try_from(number).unwrap() + 2;
        let lease = memory.attach_on("hw1", number, None).unwrap();
        memory.must(draft::seal(&memory.view, &lease, content(u8::try_from(number).unwrap()), &admin(3)));
    }
    while memory.view.versions.len() < version::MAX_VERSIONS - version::MAX_DRAFTS {
        let byte = u8::try_from(memory.view.versions.len()).unwrap() + 1;
        memory.sealed(byte);
    }
    while memory.view.versions.len() < version::MAX_VERSIONS {
        memory.create();
    }
    let refused = version::create(&memory.view, create(None), &admin(3)).unwrap_err();
    assert!(refused.message.contains("100 versions"), "{refused}");
    let change = vdisk::delete(&memory.view, &office(), nobody()).unwrap();
    assert!(change.writes.len() + change.events.len() <= 128 && change.preconditions.len() <= 128);
    assert!(memory.commit(change));
    assert!(memory.view.versions.is_empty() && memory.view.drafts.is_empty());
}
