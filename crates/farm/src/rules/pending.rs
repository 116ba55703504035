//! What an admin says about unknown MAC addresses.

use super::device::{AddDevice, admit};
use crate::change::{Change, Refusal};
use crate::device::{PendingDevice, PendingState};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::timestamp::Timestamp;
use crate::view::{FarmView, Stored};
use model::MacAddress;

/// Makes a device of a pending one.
pub fn accept(view: &FarmView, command: AddDevice, now: Timestamp) -> Result<Change, Refusal> {
    find(view, command.mac)?;
    let mut change = Change::default();
    let device = admit(view, &mut change, command, now)?;
    change.event(NewEvent::new(
        EventKind::DeviceAdded,
        &device.name,
        format!("pending device {} was accepted as {}", device.mac, device.name),
    ));
    Ok(change)
}

/// Keeps a MAC address from booting and from asking again; it can still be accepted.
pub fn reject(view: &FarmView, mac: MacAddress) -> Result<Change, Refusal> {
    let seen = find(view, mac)?;
    let mut change = Change::default();
    change.unchanged(Key::Pending(mac), seen);
    change.put(Key::Pending(mac), &PendingDevice { state: PendingState::Rejected, ..seen.record.clone() });
    change.event(NewEvent::new(EventKind::DeviceRejected, mac, format!("pending device {mac} was rejected")));
    Ok(change)
}

/// Takes a MAC address off the list; it comes back if it asks again.
pub fn forget(view: &FarmView, mac: MacAddress) -> Result<Change, Refusal> {
    let seen = find(view, mac)?;
    let mut change = Change::default();
    change.unchanged(Key::Pending(mac), seen);
    change.delete(Key::Pending(mac));
    Ok(change)
}

fn find(view: &FarmView, mac: MacAddress) -> Result<&Stored<PendingDevice>, Refusal> {
    view.pending.get(&mac).ok_or_else(|| Refusal::not_found("pending device", mac, "pending list"))
}
