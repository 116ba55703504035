//! What was heard of machines before they have a session: DHCP and TFTP, by MAC address.
//!
//! The steps become the beginning of a session's timeline. Bounded: anybody on the segment can
//! make up MAC addresses.

use model::MacAddress;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// The most machines remembered at once: a full subnet of starting machines, several times over.
const MAX_MACHINES: usize = 4096;
/// The most steps of one machine.
const MAX_STEPS: usize = 8;
/// What is older belongs to an earlier attempt to boot.
const LIFE: Duration = Duration::from_secs(120);

/// A step and when it was made.
pub(crate) type Step = (&'static str, SystemTime);

/// The first steps of machines that have no session yet.
#[derive(Default)]
pub(crate) struct BootSteps {
    machines: Mutex<HashMap<MacAddress, Vec<Step>>>,
}

impl BootSteps {
    /// Notes a step of the machine with `mac`, once each until a session takes it.
    pub(crate) fn note(&self, mac: MacAddress, label: &'static str, now: SystemTime) {
        let mut machines = self.machines.lock().expect("no holder of this lock panics");
        if !machines.contains_key(&mac) && machines.len() >= MAX_MACHINES {
            machines.retain(|_, steps| steps.iter().any(|(_, at)| is_fresh(*at, now)));
            if machines.len() >= MAX_MACHINES {
                return;
            }
        }
        let steps = machines.entry(mac).or_default();
        steps.retain(|(_, at)| is_fresh(*at, now));
        if steps.len() < MAX_STEPS && !steps.iter().any(|(known, _)| *known == label) {
            steps.push((label, now));
        }
    }

    /// Takes what was heard of `mac` in the last two minutes.
    pub(crate) fn take(&self, mac: MacAddress, now: SystemTime) -> Vec<Step> {
        let steps = self.machines.lock().expect("no holder of this lock panics").remove(&mac);
        steps.into_iter().flatten().filter(|(_, at)| is_fresh(*at, now)).collect()
    }
}

fn is_fresh(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|age| age < LIFE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn steps_are_taken_once_and_old_ones_never() {
        let (steps, mac) = (BootSteps::default(), MacAddress([2, 0, 0, 0, 0, 1]));
        steps.note(mac, "dhcp", at(0));
        steps.note(mac, "dhcp", at(1));
        steps.note(mac, "tftp", at(119));
        assert_eq!(steps.take(mac, at(121)), [("tftp", at(119))]);
        assert!(steps.take(mac, at(121)).is_empty());
    }

    #[test]
    fn made_up_addresses_take_bounded_memory() {
        let steps = BootSteps::default();
        for n in 0..20_000u32 {
            let [a, b, c, d] = n.to_be_bytes();
            steps.note(MacAddress([2, 0, a, b, c, d]), "dhcp", at(0));
        }
        assert_eq!(steps.machines.lock().unwrap().len(), MAX_MACHINES);
    }
}
