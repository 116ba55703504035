//! Any sequence of commands, some of them computed from a stale view, keeps the farm consistent.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Command {
    Import(u8),
    DeleteVDisk(u8),
    Assign(u8, u8),
    CollectionBoots(u8),
    Add(u8, Option<u8>),
    Remove(u8),
    Rename(u8, u8),
    Boot(u8),
    AutoAdd(bool),
    Prefix(u8),
}

fn command() -> impl Strategy<Value = Command> {
    let id = || 0u8..6;
    prop_oneof![
        1 => id().prop_map(Command::Import),
        1 => id().prop_map(Command::DeleteVDisk),
        1 => (id(), id()).prop_map(|(device, vdisk)| Command::Assign(device, vdisk)),
        1 => id().prop_map(Command::CollectionBoots),
        1 => (id(), proptest::option::of(id())).prop_map(|(mac, name)| Command::Add(mac, name)),
        1 => id().prop_map(Command::Remove),
        1 => (id(), id()).prop_map(|(from, to)| Command::Rename(from, to)),
        4 => id().prop_map(Command::Boot),
        1 => any::<bool>().prop_map(Command::AutoAdd),
        1 => (0u8..2).prop_map(Command::Prefix),
    ]
}

fn vdisk_name(id: u8) -> Name {
    name(&format!("v{id}"))
}

/// Some of these names are ones that a collection's pattern makes as well.
fn device_name(id: u8) -> Name {
    name(&format!("pc-00{id}"))
}

fn decide(view: &FarmView, command: &Command) -> Option<Change> {
    let decided = match command.clone() {
        Command::Import(id) => {
            let image = RegisterVDisk { name: vdisk_name(id), ..image("x", id / 2) };
            vdisk::register(view, image, at(1))
        }
        Command::DeleteVDisk(id) => vdisk::delete(view, &vdisk_name(id), nobody()),
        Command::Assign(id, of) => {
            let patch = DevicePatch { vdisks: Some(vec![vdisk_name(of)]), ..DevicePatch::default() };
            device::update(view, &device_name(id), patch)
        }
        Command::CollectionBoots(id) => {
            collection::update(view, &name("default"), boots_vdisk(vdisk_name(id).as_str()))
        }
        Command::Add(id, named) => {
            let command = AddDevice { name: named.map(device_name), ..add(mac(id), None) };
            device::add(view, command, at(2))
        }
        Command::Remove(id) => device::remove(view, &device_name(id)),
        Command::Rename(from, to) => {
            let patch = DevicePatch { name: Some(device_name(to)), ..DevicePatch::default() };
            device::update(view, &device_name(from), patch)
        }
        Command::Boot(id) => match boot_decision(view, &asks(mac(id)), at(3)) {
            BootDecision::AutoAdd(change) | BootDecision::Pending { change: Some(change), .. } => Ok(change),
            _ => return None,
        },
        Command::AutoAdd(on) => collection::update(view, &name("default"), auto_add(on)),
        Command::Prefix(id) => {
            let prefix = Some(["pc-", "kiosk-"][usize::from(id)].to_owned());
            collection::update(
                view,
                &name("default"),
                CollectionPatch { prefix, ..CollectionPatch::default() },
            )
        }
    };
    decided.ok()
}

/// Every name that a record gives is the name of a record, and addresses belong to one device.
fn check(view: &FarmView) -> Result<(), TestCaseError> {
    for (name, device) in &view.devices {
        prop_assert_eq!(&device.name, name);
        prop_assert_eq!(&view.macs[&device.mac].record, name);
        prop_assert!(view.collections.contains_key(&device.collection));
        prop_assert!(device.vdisks.iter().all(|vdisk| view.vdisks.contains_key(vdisk)));
        prop_assert!(!view.pending.contains_key(&device.mac));
    }
    prop_assert_eq!(view.macs.len(), view.devices.len());
    for collection in view.collections.values() {
        prop_assert!(collection.vdisks.iter().all(|vdisk| view.vdisks.contains_key(vdisk)));
    }
    for vdisk in view.vdisks.keys() {
        prop_assert!(view.production_of(vdisk).is_some());
    }
    for version in view.versions.values() {
        prop_assert!(view.vdisks.contains_key(&version.vdisk));
    }
    Ok(())
}

proptest! {
    /// Each command is computed from the view of up to three commits ago, as by a server that
    /// hears late; those whose preconditions fail are dropped.
    #[test]
    fn no_order_of_commands_and_no_stale_view_breaks_the_farm(
        commands in proptest::collection::vec((command(), 0usize..4), 1..60),
    ) {
        let mut memory = Memory::new();
        let mut views = vec![memory.view.clone()];
        for (command, behind) in commands {
            let seen = &views[views.len() - 1 - behind.min(views.len() - 1)];
            if let Some(change) = decide(seen, &command)
                && memory.commit(change)
            {
                views.push(memory.view.clone());
                check(&memory.view)?;
            }
        }
    }

    /// A burst of unknown machines, each retrying as the server does, ends with one device each.
    #[test]
    fn a_boot_storm_of_unknown_machines_gives_each_its_own_name(order in proptest::collection::vec(0u8..30, 1..80)) {
        let mut memory = Memory::new();
        memory.set(auto_add(true));
        for pair in order.chunks(2) {
            let seen = memory.view.clone();
            for number in pair {
                let mut decided = boot_decision(&seen, &asks(mac(*number)), at(3));
                while let BootDecision::AutoAdd(change) = decided {
                    memory.commit(change);
                    decided = boot_decision(&memory.view, &asks(mac(*number)), at(3));
                }
            }
        }
        check(&memory.view)?;
        let machines: std::collections::BTreeSet<u8> = order.into_iter().collect();
        prop_assert_eq!(memory.view.devices.len(), machines.len());
    }
}
