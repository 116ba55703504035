//! The farm's database: one table of records, changed if what the change relied on still holds.

use farm::{Change, Expect, FarmView, Key, Write};

/// The records after a transaction; none where something it relied on has changed.
pub fn committed(view: &FarmView, change: &Change) -> Option<FarmView> {
    let holds = change.preconditions.iter().all(|precondition| match precondition.expect {
        Expect::Absent => revision_of(view, &precondition.key).is_none(),
        Expect::Unchanged(revision) => revision_of(view, &precondition.key) == Some(revision),
    });
    if !holds {
        return None;
    }
    let mut view = view.clone();
    view.revision += 1;
    for write in &change.writes {
        let applied = match write {
            Write::Put(key, value) => view.put(&key.to_string(), value, view.revision),
            Write::Delete(key) => view.delete(&key.to_string()),
        };
        applied.expect("our own records can be read");
    }
    Some(view)
}

fn revision_of(view: &FarmView, key: &Key) -> Option<u64> {
    match key.clone() {
        Key::VDisk(name) => view.vdisks.get(&name).map(|stored| stored.mod_revision),
        Key::Version(name, number) => view.versions.get(&(name, number)).map(|stored| stored.mod_revision),
        Key::Draft(name, number) => view.drafts.get(&(name, number)).map(|stored| stored.mod_revision),
        Key::Orphan(id) => view.orphans.get(&id).map(|stored| stored.mod_revision),
        Key::Copy(root, server) => view.copies.get(&(root, server)).map(|stored| stored.mod_revision),
        Key::Store(name) => view.stores.get(&name).map(|stored| stored.mod_revision),
        Key::Server(name) => view.servers.get(&name).map(|stored| stored.mod_revision),
        Key::Doomed(root) => view.doomed.get(&root).map(|stored| stored.mod_revision),
        Key::Farm => view.farm.as_ref().map(|stored| stored.mod_revision),
        Key::Reading(name) => view.readings.get(&name).map(|stored| stored.mod_revision),
        Key::Guard(guard) => view.guards.get(&guard).copied(),
        other => unreachable!("no rule of this simulation relies on {other}"),
    }
}
