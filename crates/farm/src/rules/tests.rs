//! The rules against a database in memory that keeps the same promises as the real one.

mod boot_kinds;
mod canaries;
mod drafts;
mod orders;
mod people;
mod profiles;
mod properties;
mod readings;
mod versions;

use super::boot::{BootDecision, BootRequest, MAX_PENDING, boot_decision};
use super::collection::{self, CollectionPatch};
use super::device::{self, AddDevice, DevicePatch};
use super::draft::{self, Attach, Content, Lease};
use super::reading::Here;
use super::setup::{ServerStarts, server_starts};
use super::vdisk::{self, RegisterVDisk};
use super::version::{self, CreateVersion};
use super::{copy, pending, setup};
use crate::change::{Change, Expect, Refusal, RefusalKind, Write};
use crate::device::DeviceKind;
use crate::draft::{Draft, Epoch, Orphan, OrphanId, OrphanState};
use crate::event::{EventId, EventKind, NewEvent};
use crate::record::FormatRevision;
use crate::timestamp::{Stamp, Timestamp};
use crate::vdisk::{Bootable, Version};
use crate::view::FarmView;
use model::{DiskSize, MacAddress, Name, Root, VersionNumber};
use std::collections::{BTreeMap, BTreeSet};

/// No session on the server that is asked.
fn nobody() -> Here<'static> {
    static HERE: std::sync::LazyLock<Name> = std::sync::LazyLock::new(|| name("hw1"));
    Here { server: &HERE, sessions: &[] }
}

/// Records as a database holds them, and the view of them.
#[derive(Clone, Default)]
struct Memory {
    view: FarmView,
    records: BTreeMap<String, u64>,
}

impl Memory {
    /// A farm after its first server's start.
    fn new() -> Self {
        let mut memory = Self::default();
        let stores = BTreeMap::from([(name("default"), "/srv".to_owned())]);
        let starts = ServerStarts { server: name("hw1"), stores, new_token_hash: Some("00".to_owned()) };
        assert!(memory.commit(server_starts(&memory.view, starts, at(0))));
        memory
    }

    /// A farm of servers hw1, hw2 and hw3, which all keep vDisk "office", complete on hw1 only.
    fn of_three() -> Self {
        let mut memory = Self::new();
        for server in ["hw2", "hw3"] {
            let stores = BTreeMap::from([(name("default"), "/srv".to_owned())]);
            let starts = ServerStarts { server: name(server), stores, new_token_hash: None };
            assert!(memory.commit(server_starts(&memory.view, starts, at(0))));
        }
        memory.import("office", 1);
        memory
    }

    /// Makes the next version of "office" from the one in production.
    fn create(&mut self) -> VersionNumber {
        let number = self.view.vdisks[&name("office")].next;
        self.must(version::create(&self.view, create(None), &admin(2)));
        number
    }

    /// Makes a version of "office" with this content, sealed on hw1.
    fn sealed(&mut self, byte: u8) -> VersionNumber {
        let number = self.create();
        let lease = self.attach_on("hw1", number.0, None).unwrap();
        self.must(draft::seal(&self.view, &lease, content(byte), &admin(3)));
        number
    }

    /// Takes a draft's lease, or says why not.
    fn attach_on(&mut self, server: &str, number: u32, device: Option<&str>) -> Result<Lease, Refusal> {
        let (vdisk, number, server) = (name("office"), VersionNumber(number), name(server));
        let attach =
            Attach { vdisk: vdisk.clone(), number, server: server.clone(), device: device.map(name) };
        let (change, epoch) = draft::attach(&self.view, &attach, at(4))?;
        assert!(self.commit(change), "nobody got in between");
        Ok(Lease { vdisk, number, server, epoch })
    }

    /// Notes that a server has a content completely now.
    fn hydrate(&mut self, server: &str, byte: u8) {
        let server = name(server);
        let mut has: BTreeSet<Root> =
            self.view.copies.keys().filter(|(_, of)| *of == server).map(|(root, _)| *root).collect();
        has.insert(Root::from_bytes([byte; 32]));
        let change = copy::report(&self.view, &server, &has, at(4));
        assert!(self.commit(change));
    }

    fn version(&self, number: u32) -> &Version {
        self.view.version(&name("office"), VersionNumber(number)).expect("the version is there")
    }

    fn draft(&self, number: u32) -> &Draft {
        self.view.draft(&name("office"), VersionNumber(number)).expect("the draft is there")
    }

    fn production(&self) -> u32 {
        self.view.vdisks[&name("office")].production.unwrap().0
    }

    /// Commits a change if what it relied on still holds, as `farm-db` does.
    fn commit(&mut self, change: Change) -> bool {
        let holds = change.preconditions.iter().all(|precondition| {
            let found = self.records.get(&precondition.key.to_string()).copied();
            match precondition.expect {
                Expect::Absent => found.is_none(),
                Expect::Unchanged(revision) => found == Some(revision),
            }
        });
        if !holds {
            return false;
        }
        let revision = self.view.revision + 1;
        let mut written = Vec::new();
        for write in change.writes {
            let key = match &write {
                Write::Put(key, _) | Write::Delete(key) => key.to_string(),
            };
            assert!(!written.contains(&key), "a transaction names {key} twice");
            match write {
                Write::Put(_, value) => {
                    self.view.put(&key, &value, revision).unwrap();
                    self.records.insert(key.clone(), revision);
                }
                Write::Delete(_) => {
                    self.view.delete(&key).unwrap();
                    self.records.remove(&key);
                }
            }
            written.push(key);
        }
        self.view.revision = revision;
        true
    }

    fn must(&mut self, change: Result<Change, Refusal>) {
        assert!(self.commit(change.unwrap()), "nobody got in between");
    }

    fn import(&mut self, vdisk: &str, content: u8) {
        self.must(vdisk::register(&self.view, image(vdisk, content), at(1)));
    }

    fn add(&mut self, mac: MacAddress, device: Option<&str>) {
        self.must(device::add(&self.view, add(mac, device), at(2)));
    }

    fn set(&mut self, patch: CollectionPatch) {
        self.must(collection::update(&self.view, &name("default"), patch));
    }

    fn boots(&self, mac: MacAddress) -> BootDecision {
        boot_decision(&self.view, &asks(mac), at(3))
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn mac(number: u8) -> MacAddress {
    MacAddress([0x52, 0x54, 0, 0, 0, number])
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(1_700_000_000_000 + seconds * 1000)
}

fn image(vdisk: &str, content: u8) -> RegisterVDisk {
    RegisterVDisk {
        name: name(vdisk),
        store: name("default"),
        server: name("hw1"),
        root: Root::from_bytes([content; 32]),
        size: DiskSize::new(1 << 30).unwrap(),
        data_bytes: 1 << 20,
        boot: Bootable::Linux { kernel_version: "6.1".to_owned(), root_spec: "/dev/nbd0p1".to_owned() },
        comment: String::new(),
        by: "admin".to_owned(),
    }
}

fn admin(seconds: u64) -> Stamp {
    Stamp::new("admin", at(seconds))
}

fn create(from: Option<u32>) -> CreateVersion {
    CreateVersion { vdisk: name("office"), from: from.map(VersionNumber), comment: String::new() }
}

fn content(byte: u8) -> Content {
    let RegisterVDisk { root, data_bytes, boot, .. } = image("x", byte);
    Content { root, data_bytes, boot }
}

fn asks(mac: MacAddress) -> BootRequest {
    BootRequest { mac, server: name("hw1"), chosen: None }
}

fn add(mac: MacAddress, device: Option<&str>) -> AddDevice {
    AddDevice {
        mac,
        name: device.map(name),
        collection: name("default"),
        kind: DeviceKind::Production,
        vdisks: vec![],
    }
}

fn boots_vdisk(vdisk: &str) -> CollectionPatch {
    CollectionPatch { vdisks: Some(vec![name(vdisk)]), ..CollectionPatch::default() }
}

fn auto_add(on: bool) -> CollectionPatch {
    CollectionPatch { auto_add: Some(on), ..CollectionPatch::default() }
}

fn kind(refused: Result<Change, Refusal>) -> RefusalKind {
    let refusal = refused.unwrap_err();
    assert!(!refusal.hint.is_empty(), "{refusal}");
    refusal.kind
}

#[test]
fn a_first_start_makes_the_defaults_and_a_second_one_changes_nothing() {
    let memory = Memory::new();
    let view = &memory.view;
    assert!(view.farm.is_some() && view.admin_tokens.contains_key(&name("hw1")));
    assert!(view.collections.contains_key(&name("default")) && view.sites.contains_key(&name("default")));
    assert_eq!(view.stores[&name("default")].paths[&name("hw1")], "/srv");
    let stores = BTreeMap::from([(name("default"), "/srv".to_owned())]);
    let again = ServerStarts { server: name("hw1"), stores, new_token_hash: None };
    assert_eq!(server_starts(view, again, at(9)), Change::default());
}

#[test]
fn two_servers_that_start_first_at_once_make_one_farm() {
    let starts =
        |server: &str| ServerStarts { server: name(server), stores: BTreeMap::new(), new_token_hash: None };
    let mut memory = Memory::default();
    let (one, two) =
        (server_starts(&memory.view, starts("a"), at(0)), server_starts(&memory.view, starts("b"), at(0)));
    assert!(memory.commit(one) && !memory.commit(two));
    assert!(memory.commit(server_starts(&memory.view.clone(), starts("b"), at(0))));
    assert_eq!(memory.view.servers.len(), 2);
}

#[test]
fn a_known_device_boots_its_own_vdisk_or_its_collections() {
    let mut memory = Memory::new();
    memory.import("office", 1);
    memory.import("lab", 2);
    memory.add(mac(1), Some("kiosk"));
    let BootDecision::Refuse { reason } = memory.boots(mac(1)) else { panic!("nothing is assigned") };
    assert!(reason.contains("no vDisk is assigned"), "{reason}");
    memory.set(CollectionPatch { boot_args: Some("quiet".to_owned()), ..boots_vdisk("office") });
    let BootDecision::Boot(boot) = memory.boots(mac(1)) else { panic!("it boots") };
    assert_eq!((boot.vdisk.as_str(), boot.boot_args.as_str()), ("office", "quiet"));
    assert_eq!(boot.root, Root::from_bytes([1; 32]));
    let own = DevicePatch { vdisks: Some(vec![name("lab")]), ..DevicePatch::default() };
    memory.must(device::update(&memory.view, &name("kiosk"), own));
    let BootDecision::Boot(boot) = memory.boots(mac(1)) else { panic!("it boots") };
    assert_eq!(boot.vdisk.as_str(), "lab");
    let off = DevicePatch { disabled: Some(true), ..DevicePatch::default() };
    memory.must(device::update(&memory.view, &name("kiosk"), off));
    assert!(matches!(memory.boots(mac(1)), BootDecision::Refuse { .. }));
}

#[test]
fn a_vdisk_without_a_kernel_is_not_booted() {
    let mut memory = Memory::new();
    let no = Bootable::No { reason: "no nbd module".to_owned() };
    memory.must(vdisk::register(&memory.view, RegisterVDisk { boot: no, ..image("data", 1) }, at(1)));
    memory.set(boots_vdisk("data"));
    memory.add(mac(1), None);
    let BootDecision::Refuse { reason } = memory.boots(mac(1)) else { panic!("it cannot boot") };
    assert!(reason.contains("no nbd module"), "{reason}");
}

#[test]
fn an_unknown_machine_becomes_a_device_where_auto_add_is_on() {
    let mut memory = Memory::new();
    memory.import("office", 1);
    memory.set(CollectionPatch { vdisks: Some(vec![name("office")]), ..auto_add(true) });
    memory.add(mac(9), Some("pc-002"));
    for (number, expected) in [(1, "pc-001"), (2, "pc-003")] {
        let BootDecision::AutoAdd(change) = memory.boots(mac(number)) else { panic!("it is added") };
        assert!(memory.commit(change));
        let BootDecision::Boot(boot) = memory.boots(mac(number)) else { panic!("it boots") };
        assert_eq!(boot.device.as_str(), expected, "taken names are left out");
    }
}

#[test]
fn two_unknown_machines_at_once_get_two_names() {
    let mut memory = Memory::new();
    memory.set(auto_add(true));
    let (BootDecision::AutoAdd(one), BootDecision::AutoAdd(two)) =
        (memory.boots(mac(1)), memory.boots(mac(2)))
    else {
        panic!("both are added")
    };
    assert!(memory.commit(one));
    assert!(!memory.commit(two), "the second was computed with the same name");
    let BootDecision::AutoAdd(two) = memory.boots(mac(2)) else { panic!("it is added") };
    assert!(memory.commit(two));
    assert_eq!(memory.view.devices.len(), 2);
}

#[test]
fn an_unknown_machine_waits_where_auto_add_is_off_until_it_is_accepted() {
    let mut memory = Memory::new();
    let BootDecision::Pending { change: Some(change), .. } = memory.boots(mac(1)) else { panic!("it waits") };
    assert_eq!(change.events.len(), 1);
    assert!(memory.commit(change));
    let again = boot_decision(&memory.view, &asks(mac(1)), at(10));
    assert!(matches!(again, BootDecision::Pending { change: None, .. }), "a boot loop writes nothing");
    let later = boot_decision(&memory.view, &asks(mac(1)), at(100));
    let BootDecision::Pending { change: Some(change), .. } = later else { panic!("seen again") };
    assert!(change.events.is_empty() && memory.commit(change));
    assert_eq!(memory.view.pending[&mac(1)].first_seen, at(3));
    memory.must(pending::accept(&memory.view, add(mac(1), Some("kiosk")), at(101)));
    assert!(memory.view.pending.is_empty());
    assert_eq!(memory.view.device_of(mac(1)).unwrap().name.as_str(), "kiosk");
}

#[test]
fn a_machine_that_is_added_while_it_begins_to_wait_does_not_wait_on() {
    let mut memory = Memory::new();
    let BootDecision::Pending { change: Some(wait), .. } = memory.boots(mac(1)) else { panic!("it waits") };
    let added = device::add(&memory.view, add(mac(1), None), at(3)).unwrap();
    assert!(memory.commit(wait) && !memory.commit(added));
}

#[test]
fn a_rejected_machine_stays_out_until_it_is_accepted_or_forgotten() {
    let mut memory = Memory::new();
    let BootDecision::Pending { change: Some(change), .. } = memory.boots(mac(1)) else { panic!("it waits") };
    assert!(memory.commit(change));
    memory.must(pending::reject(&memory.view, mac(1)));
    memory.set(auto_add(true));
    assert!(
        matches!(memory.boots(mac(1)), BootDecision::Refuse { .. }),
        "auto-add does not overrule an admin"
    );
    memory.must(pending::forget(&memory.view, mac(1)));
    assert!(matches!(memory.boots(mac(1)), BootDecision::AutoAdd(_)));
    assert_eq!(kind(pending::reject(&memory.view, mac(1))), RefusalKind::NotFound);
}

#[test]
fn the_pending_list_is_bounded() {
    let mut memory = Memory::new();
    for number in 0..MAX_PENDING {
        let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
        let mac = MacAddress([2, 0, 0, 0, high, low]);
        let BootDecision::Pending { change: Some(change), .. } = memory.boots(mac) else {
            panic!("it waits")
        };
        assert!(memory.commit(change));
    }
    assert!(matches!(memory.boots(mac(1)), BootDecision::Refuse { .. }));
    let request = BootRequest { mac: mac(1), server: name("hw1"), chosen: None };
    let BootDecision::Pending { change: Some(change), .. } = boot_decision(&memory.view, &request, at(4000))
    else {
        panic!("one that has gone makes room")
    };
    assert!(memory.commit(change));
    assert_eq!(memory.view.pending.len(), MAX_PENDING);
}

#[test]
fn a_vdisk_in_use_is_not_deleted_and_its_users_are_named() {
    let mut memory = Memory::new();
    memory.import("office", 1);
    memory.set(boots_vdisk("office"));
    let refused = vdisk::delete(&memory.view, &name("office"), nobody()).unwrap_err();
    assert!(refused.message.contains("collections boot or pin it: default"), "{refused}");
    memory.set(CollectionPatch { vdisks: Some(vec![]), ..CollectionPatch::default() });
    memory.must(device::add(
        &memory.view,
        AddDevice { vdisks: vec![name("office")], ..add(mac(1), Some("kiosk")) },
        at(2),
    ));
    let refused = vdisk::delete(&memory.view, &name("office"), nobody()).unwrap_err();
    assert!(refused.message.contains("devices boot or pin it: kiosk"), "{refused}");
    memory.must(device::remove(&memory.view, &name("kiosk")));
    let sessions: Vec<String> = (0..7).map(|n| format!("session-{n}")).collect();
    let refused =
        vdisk::delete(&memory.view, &name("office"), Here { sessions: &sessions, ..nobody() }).unwrap_err();
    assert!(refused.message.contains("session-4 and 2 more"), "{refused}");
    memory.must(vdisk::delete(&memory.view, &name("office"), nobody()));
    assert!(memory.view.versions.is_empty() && memory.view.vdisks.is_empty());
    assert_eq!(kind(vdisk::delete(&memory.view, &name("office"), nobody())), RefusalKind::NotFound);
}

#[test]
fn assigning_and_deleting_at_once_never_leaves_a_dangling_name() {
    let mut before = Memory::new();
    before.import("office", 1);
    let assign = collection::update(&before.view, &name("default"), boots_vdisk("office")).unwrap();
    let delete = vdisk::delete(&before.view, &name("office"), nobody()).unwrap();
    for (first, second) in [(assign.clone(), delete.clone()), (delete, assign)] {
        let mut memory = before.clone();
        assert!(memory.commit(first));
        assert!(!memory.commit(second));
    }
}

#[test]
fn joining_and_deleting_a_collection_at_once_never_leaves_a_dangling_name() {
    let mut before = Memory::new();
    before.must(collection::create(&before.view, name("lab"), CollectionPatch::default(), at(1)));
    before.add(mac(1), Some("kiosk"));
    let to_lab = DevicePatch { collection: Some(name("lab")), ..DevicePatch::default() };
    let join = device::update(&before.view, &name("kiosk"), to_lab).unwrap();
    let delete = collection::delete(&before.view, &name("lab")).unwrap();
    for (first, second) in [(join.clone(), delete.clone()), (delete, join)] {
        let mut memory = before.clone();
        assert!(memory.commit(first));
        assert!(!memory.commit(second));
    }
}

#[test]
fn one_collection_at_most_adds_unknown_machines() {
    let mut memory = Memory::new();
    memory.must(collection::create(&memory.view, name("lab"), CollectionPatch::default(), at(1)));
    let one = collection::update(&memory.view, &name("default"), auto_add(true)).unwrap();
    let two = collection::update(&memory.view, &name("lab"), auto_add(true)).unwrap();
    assert!(memory.commit(one) && !memory.commit(two));
    assert_eq!(kind(collection::update(&memory.view, &name("lab"), auto_add(true))), RefusalKind::InUse);
}

#[test]
fn deleted_content_is_doomed_unless_another_vdisk_has_it() {
    let mut memory = Memory::new();
    memory.import("one", 7);
    memory.import("two", 7);
    memory.must(vdisk::delete(&memory.view, &name("one"), nobody()));
    assert!(memory.view.doomed.is_empty());
    memory.must(vdisk::delete(&memory.view, &name("two"), nobody()));
    let root = Root::from_bytes([7; 32]);
    assert!(memory.view.doomed.contains_key(&root) && !memory.view.names(root));
    memory.must(Ok(vdisk::swept(&memory.view, &[root])));
    assert!(memory.view.doomed.is_empty());
    assert_eq!(vdisk::swept(&memory.view, &[root]), Change::default());
}

#[test]
fn a_vdisk_has_the_hooks_that_it_was_given_last() {
    let mut memory = Memory::new();
    memory.import("one", 7);
    let mut set = |hooks: Vec<Name>| memory.must(vdisk::set_hooks(&memory.view, &name("one"), hooks));
    set(vec![name("linux-clean"), name("kms")]);
    set(vec![name("kms")]);
    assert_eq!(memory.view.vdisks[&name("one")].hooks, [name("kms")]);
    let same = vdisk::set_hooks(&memory.view, &name("one"), vec![name("kms")]);
    assert_eq!(same.unwrap(), Change::default());
    let many = vdisk::set_hooks(&memory.view, &name("one"), vec![name("kms"); 17]);
    assert_eq!(kind(many), RefusalKind::Limit);
    assert_eq!(kind(vdisk::set_hooks(&memory.view, &name("two"), vec![])), RefusalKind::NotFound);
}

#[test]
fn a_rename_takes_the_address_along_and_a_taken_name_is_refused() {
    let mut memory = Memory::new();
    memory.add(mac(1), Some("a"));
    memory.add(mac(2), Some("b"));
    let to = |new: &str| DevicePatch { name: Some(name(new)), ..DevicePatch::default() };
    assert_eq!(kind(device::update(&memory.view, &name("a"), to("b"))), RefusalKind::Exists);
    memory.must(device::update(&memory.view, &name("a"), to("c")));
    assert_eq!(memory.view.device_of(mac(1)).unwrap().name.as_str(), "c");
    assert!(!memory.view.devices.contains_key(&name("a")));
    assert_eq!(kind(device::add(&memory.view, add(mac(1), Some("d")), at(2))), RefusalKind::Exists);
}

#[test]
fn what_a_collection_cannot_mean_is_refused() {
    let memory = Memory::new();
    let refused = |patch| kind(collection::update(&memory.view, &name("default"), patch));
    let patch = CollectionPatch::default;
    let args = |text: &str| CollectionPatch { boot_args: Some(text.to_owned()), ..patch() };
    assert_eq!(refused(CollectionPatch { cache_limit_bytes: Some(1), ..patch() }), RefusalKind::Invalid);
    assert_eq!(refused(CollectionPatch { prefix: Some("Büro".to_owned()), ..patch() }), RefusalKind::Invalid);
    assert_eq!(refused(CollectionPatch { digits: Some(13), ..patch() }), RefusalKind::Invalid);
    assert_eq!(refused(boots_vdisk("none")), RefusalKind::NotFound);
    for text in ["a\nshell", "${net0/mac}", "a || shell", "#x", "headwater.plan=x", "ü", &"x".repeat(2000)] {
        assert_eq!(refused(args(text)), RefusalKind::Invalid, "{text}");
    }
    assert!(collection::update(&memory.view, &name("default"), args("quiet console=ttyS0,115200")).is_ok());
}

#[test]
fn a_used_up_counter_is_said_with_its_remedy() {
    let mut memory = Memory::new();
    memory.set(CollectionPatch { digits: Some(1), ..CollectionPatch::default() });
    (1..=9).for_each(|number| memory.add(mac(number), None));
    let refused = device::add(&memory.view, add(mac(10), None), at(2)).unwrap_err();
    assert!(refused.message.contains("no names left") && refused.hint.contains("--digits 2"), "{refused}");
}

#[test]
fn a_record_of_a_newer_program_is_refused() {
    let mut view = FarmView::default();
    let newer = br#"{"revision":2,"name":"default"}"#;
    let error = view.put("/sites/default", newer, 1).unwrap_err().to_string();
    assert!(error.contains("format revision 2") && error.contains("hint: "), "{error}");
    let unknown = br#"{"revision":1,"name":"default","zone":"x"}"#;
    assert!(view.put("/sites/default", unknown, 1).is_err(), "writing it back would lose the field");
    assert!(view.put("/spaceships/a", b"{}", 1).is_err());
}

/// The stored form of every record of revision 1: a change here is a change of the format.
#[test]
fn the_golden_records_are_read_and_written_to_the_byte() {
    let mut view = FarmView::default();
    let golden = include_str!("../../golden/records-1.txt");
    for line in golden.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        view.put(key, value.as_bytes(), 1).unwrap();
    }
    let mut memory = Memory::new();
    memory.import("office", 0xab);
    memory.set(boots_vdisk("office"));
    memory.add(mac(1), None);
    let BootDecision::Pending { change: Some(change), .. } = memory.boots(mac(2)) else { panic!("it waits") };
    assert!(memory.commit(change));
    let command = CreateVersion { comment: "updates".to_owned(), ..create(None) };
    memory.must(version::create(&memory.view, command, &admin(3)));
    let lease = memory.attach_on("hw1", 2, Some("m-07")).unwrap();
    memory.must(draft::mark_dirty(&memory.view, &lease, at(4)));
    memory.import("old", 0xcd);
    memory.must(vdisk::delete(&memory.view, &name("old"), nobody()));
    assert!(memory.commit(super::identity::make_secret(&memory.view, &"5e".repeat(32), at(5))));
    let written = stored_lines(&memory);
    assert_eq!(written, golden, "what is written now:\n{written}");
}

fn orphan() -> Orphan {
    Orphan {
        revision: FormatRevision,
        vdisk: name("office"),
        number: VersionNumber(2),
        server: name("hw1"),
        store: name("default"),
        from_epoch: Epoch(3),
        to_epoch: Epoch(5),
        draft: "office.2.e5".to_owned(),
        checkpoint: Root::from_bytes([0xab; 32]),
        state: OrphanState::Claimed,
        discarded: Stamp::new("admin", at(5)),
    }
}

fn stored_lines(memory: &Memory) -> String {
    use crate::record::Record;
    let view = &memory.view;
    let mut lines = BTreeMap::new();
    macro_rules! lines {
        ($($key:ident: $table:ident),*) => {
            $(for (id, stored) in &view.$table {
                let key = crate::key::Key::$key(id.clone()).to_string();
                lines.insert(key, String::from_utf8(stored.record.encode()).unwrap());
            })*
        };
    }
    lines!(Site: sites, Server: servers, Store: stores, VDisk: vdisks, Collection: collections, Device: devices,
        Mac: macs, Pending: pending, Doomed: doomed);
    for ((vdisk, number), stored) in &view.drafts {
        let key = crate::key::Key::Draft(vdisk.clone(), *number).to_string();
        lines.insert(key, String::from_utf8(stored.record.encode()).unwrap());
    }
    for ((root, server), stored) in &view.copies {
        let key = crate::key::Key::Copy(*root, server.clone()).to_string();
        lines.insert(key, String::from_utf8(stored.record.encode()).unwrap());
    }
    let id = OrphanId { vdisk: name("office"), number: VersionNumber(2), epoch: Epoch(5) };
    lines.insert(crate::key::Key::Orphan(id).to_string(), String::from_utf8(orphan().encode()).unwrap());
    for ((vdisk, number), stored) in &view.versions {
        let key = crate::key::Key::Version(vdisk.clone(), *number).to_string();
        lines.insert(key, String::from_utf8(stored.record.encode()).unwrap());
    }
    lines.insert("/farm".to_owned(), String::from_utf8(view.farm.as_ref().unwrap().encode()).unwrap());
    let token = &view.admin_tokens[&name("hw1")];
    lines.insert("/admin-tokens/hw1".to_owned(), String::from_utf8(token.encode()).unwrap());
    let secret = view.identity_secret.as_ref().unwrap();
    lines.insert("/identity-secret".to_owned(), String::from_utf8(secret.encode()).unwrap());
    let id = EventId { at: at(4), server: name("hw1"), count: 7 };
    let event = NewEvent::new(EventKind::DeviceAdded, "pc-001", "device pc-001 was added").at(id.clone());
    lines.insert(crate::key::Key::Event(id).to_string(), String::from_utf8(event.encode()).unwrap());
    lines.into_iter().map(|(key, value)| format!("{key} {value}\n")).collect()
}

#[test]
fn a_new_collections_pattern_is_a_name_whatever_it_is_called() {
    for text in ["a", "lab", "a-very-long-name-of-a-collection", "x.y_z-", &"z".repeat(63)] {
        assert!(setup::template(name(text), at(0)).naming.name(1).is_some(), "{text}");
    }
}
