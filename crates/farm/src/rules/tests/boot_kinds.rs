//! What production, test and maintenance devices boot, pins and menus.

use super::*;
use crate::rules::boot::{Boot, BootAccess, why_not_booting};
use crate::rules::version::{CopyRule, Pin, PinScope, Promote, PromoteTo, Seen, When, pin, promote};

/// A farm where "office" has version 1 in production, 2 in test, 3 sealed only, and draft 4; kiosk is
/// a production device.
fn farm() -> Memory {
    let mut memory = Memory::of_three();
    memory.set(boots_vdisk("office"));
    memory.add(mac(1), Some("kiosk"));
    let (two, _) = (memory.sealed(2), memory.sealed(3));
    memory.create();
    to(&mut memory, two, PromoteTo::Test);
    memory
}

fn to(memory: &mut Memory, number: VersionNumber, to: PromoteTo) {
    let vdisk = name("office");
    let production = memory.view.vdisks[&vdisk].production;
    let root = memory.version(number.0).root;
    let command = Promote { vdisk, number, to, seen: Seen { root, production } };
    memory.must(promote(&memory.view, &command, &admin(5)));
}

fn becomes(memory: &mut Memory, kind: DeviceKind) {
    let patch = DevicePatch { kind: Some(kind), ..DevicePatch::default() };
    memory.must(device::update(&memory.view, &name("kiosk"), patch));
}

fn pinned(memory: &mut Memory, scope: PinScope, number: u32) {
    let number = VersionNumber(number);
    memory.must(pin(&memory.view, &Pin { scope, vdisk: name("office"), number }, &admin(6)));
}

fn booted(memory: &Memory) -> Boot {
    match memory.boots(mac(1)) {
        BootDecision::Boot(boot) => *boot,
        other => panic!("it boots: {other:?}"),
    }
}

fn number_booted(memory: &Memory) -> u32 {
    booted(memory).version.0
}

fn refused(memory: &Memory) -> String {
    match memory.boots(mac(1)) {
        BootDecision::Refuse { reason } => reason,
        other => panic!("it is refused: {other:?}"),
    }
}

#[test]
fn a_production_device_boots_the_pointer_and_follows_a_promotion_at_its_next_boot() {
    let mut memory = farm();
    assert_eq!(number_booted(&memory), 1);
    assert!(matches!(booted(&memory).access, BootAccess::ReadOnly { .. }));
    to(&mut memory, VersionNumber(2), PromoteTo::Production(When::Now(CopyRule::AtLeast(1))));
    assert_eq!(number_booted(&memory), 2);
}

#[test]
fn a_test_device_boots_the_newest_version_in_test_else_production() {
    let mut memory = farm();
    becomes(&mut memory, DeviceKind::Test);
    assert_eq!(number_booted(&memory), 2);
    to(&mut memory, VersionNumber(2), PromoteTo::Production(When::Now(CopyRule::AtLeast(1))));
    assert_eq!(number_booted(&memory), 2, "nothing is in test");
    to(&mut memory, VersionNumber(3), PromoteTo::Test);
    assert_eq!(number_booted(&memory), 3);
}

#[test]
fn the_devices_pin_goes_before_the_collections_and_that_before_the_vdisks() {
    let mut memory = farm();
    pinned(&mut memory, PinScope::VDisk, 3);
    assert_eq!(number_booted(&memory), 3);
    pinned(&mut memory, PinScope::Collection(name("default")), 2);
    assert_eq!(number_booted(&memory), 2);
    pinned(&mut memory, PinScope::Device(name("kiosk")), 1);
    assert_eq!(number_booted(&memory), 1);
}

#[test]
fn a_pin_of_the_vdisk_does_not_keep_test_devices_from_testing() {
    let mut memory = farm();
    becomes(&mut memory, DeviceKind::Test);
    pinned(&mut memory, PinScope::VDisk, 1);
    assert_eq!(number_booted(&memory), 2);
    pinned(&mut memory, PinScope::Collection(name("default")), 1);
    assert_eq!(number_booted(&memory), 1);
}

#[test]
fn a_maintenance_device_boots_the_newest_draft_or_the_one_chosen_for_it() {
    let mut memory = farm();
    let fifth = memory.create();
    becomes(&mut memory, DeviceKind::Maintenance);
    let boot = booted(&memory);
    assert_eq!((boot.version, boot.access, boot.root), (fifth, BootAccess::Draft, content(1).root));
    pinned(&mut memory, PinScope::Device(name("kiosk")), 4);
    assert_eq!(number_booted(&memory), 4);
    becomes(&mut memory, DeviceKind::Production);
    assert!(refused(&memory).contains("is a draft, which only maintenance devices boot"));
}

#[test]
fn a_second_maintenance_device_is_refused_with_the_holders_name() {
    let mut memory = farm();
    becomes(&mut memory, DeviceKind::Maintenance);
    memory.attach_on("hw1", 4, Some("m-07")).unwrap();
    let reason = refused(&memory);
    assert!(reason.contains("held by device m-07 on server hw1 since"), "{reason}");
    let shown = why_not_booting(&memory.view, &memory.view.devices[&name("kiosk")], &name("hw1"), at(9));
    assert_eq!(shown, Some(reason));
}

#[test]
fn a_maintenance_device_is_sent_to_the_server_that_has_what_it_wrote() {
    let mut memory = farm();
    becomes(&mut memory, DeviceKind::Maintenance);
    memory.hydrate("hw2", 1);
    let lease = memory.attach_on("hw2", 4, Some("kiosk")).unwrap();
    memory.must(draft::mark_dirty(&memory.view, &lease, at(5)));
    assert_eq!(elsewhere(&memory), [name("hw2")], "it has bytes that no checkpoint has");
    let saved = draft::checkpoint(&memory.view, &lease, content(9), draft::SinceCheckpoint::Clean, at(6));
    memory.must(saved);
    assert_eq!(elsewhere(&memory), [name("hw2")], "it has the only copy of the checkpoint");
    memory.hydrate("hw1", 9);
    assert_eq!(booted(&memory).root, content(9).root, "this server has the checkpoint, too");
}

fn elsewhere(memory: &Memory) -> Vec<Name> {
    match memory.boots(mac(1)) {
        BootDecision::Elsewhere { servers, .. } => servers,
        other => panic!("it is sent on: {other:?}"),
    }
}

#[test]
fn a_maintenance_device_without_a_draft_is_told_how_to_make_one() {
    let mut memory = farm();
    becomes(&mut memory, DeviceKind::Maintenance);
    memory.must(version::delete(&memory.view, &name("office"), VersionNumber(4), nobody(), &admin(6)));
    assert!(refused(&memory).contains("headwater version create office"));
}

#[test]
fn several_vdisks_make_a_menu_and_the_choice_boots() {
    let mut memory = farm();
    memory.import("lab", 9);
    memory.set(CollectionPatch {
        vdisks: Some(vec![name("office"), name("lab")]),
        ..CollectionPatch::default()
    });
    let BootDecision::Menu(menu) = memory.boots(mac(1)) else { panic!("it is asked") };
    assert_eq!(menu.vdisks, [name("office"), name("lab")], "the first is the default");
    let choose = |vdisk: &str| {
        let request = BootRequest { chosen: Some(name(vdisk)), ..asks(mac(1)) };
        boot_decision(&memory.view, &request, at(3))
    };
    let BootDecision::Boot(boot) = choose("lab") else { panic!("it boots") };
    assert_eq!(boot.vdisk, name("lab"));
    let BootDecision::Refuse { reason } = choose("other") else { panic!("nobody assigned it") };
    assert!(reason.contains("not assigned"), "{reason}");
}

#[test]
fn a_menu_names_each_vdisk_once_and_fits_on_a_screen() {
    let memory = farm();
    let assign = |vdisks: Vec<Name>| {
        let patch = CollectionPatch { vdisks: Some(vdisks), ..CollectionPatch::default() };
        kind(collection::update(&memory.view, &name("default"), patch))
    };
    assert_eq!(assign(vec![name("office"), name("office")]), RefusalKind::Invalid);
    assert_eq!(assign((0..17).map(|n| name(&format!("v{n}"))).collect()), RefusalKind::Limit);
}
