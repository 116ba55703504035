//! What a change would do to the devices, found by doing it to a copy of the snapshot.

use api::{DeviceChange, DryRun};
use farm::{BootDecision, BootRequest, Change, Device, FarmView, Timestamp, Write};
use model::Name;

/// What `change` would tell, and which devices would boot something else after it.
pub(super) fn of(view: &FarmView, change: Change, server: &Name, now: Timestamp) -> DryRun {
    let mut after = view.clone();
    for write in &change.writes {
        let applied = match write {
            Write::Put(key, value) => after.put(&key.to_string(), value, view.revision + 1),
            Write::Delete(key) => after.delete(&key.to_string()),
        };
        if let Err(error) = applied {
            tracing::error!(%error, "a rule wrote a record that cannot be read");
        }
    }
    let boots = |view: &FarmView, name: &Name| match view.devices.get(name) {
        Some(device) => what_boots(view, device, server, now),
        None => "nothing".to_owned(),
    };
    let devices = view.devices.keys().filter_map(|name| {
        let (now, then) = (boots(view, name), boots(&after, name));
        (now != then).then(|| DeviceChange { name: name.clone(), now, then })
    });
    let devices = devices.collect();
    DryRun { would: change.events.into_iter().map(|event| event.message).collect(), devices }
}

/// What a device boots by default, or why it does not.
fn what_boots(view: &FarmView, device: &Device, server: &Name, now: Timestamp) -> String {
    let chosen = view.vdisk_of(device).cloned();
    let request = BootRequest { mac: device.mac, server: server.clone(), chosen };
    match farm::boot_decision(view, &request, now) {
        BootDecision::Boot(boot) => format!("{} version {}", boot.vdisk, boot.version),
        BootDecision::Refuse { reason } => format!("nothing: {reason}"),
        BootDecision::Elsewhere { reason, .. } => format!("from another server: {reason}"),
        BootDecision::Menu(_) | BootDecision::AutoAdd(_) | BootDecision::Pending { .. } => {
            "nothing".to_owned()
        }
    }
}
