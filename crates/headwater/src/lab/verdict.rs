//! What `--once` demands of a machine, as a state machine: two boots, a write in each, and the
//! second boot knows nothing of the first one's write.
//!
//! Pure: events in, the next thing to do out. Without `--once` only the login prompt counts.

use super::serial::{DiskState, Marker, SerialEvent};
use std::time::{Duration, SystemTime};

/// How long after the login prompt the lab's service may still take: the prompt comes up beside
/// it, and TCG on a loaded machine stretches seconds into tens of them.
const SERVICE_PATIENCE: Duration = Duration::from_secs(90);

/// How long a machine may take to reboot in order before the reset button is pressed: systemd's
/// own limit for a service that does not stop is 90 s, and nothing in the lab's image needs it.
const REBOOT_PATIENCE: Duration = Duration::from_secs(60);

/// What the lab wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// A login prompt.
    Login,
    /// Writes that are gone after a reboot.
    WritesGone,
}

/// One of the two boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// From power-on.
    First,
    /// After the reboot.
    Second,
}

/// What is known of the boot at hand.
#[derive(Clone, Debug, Default)]
struct Seen {
    login: Option<SystemTime>,
    marker: Option<Marker>,
    wrote: bool,
}

/// Where a machine stands.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    goal: Goal,
    boot: Boot,
    seen: Seen,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Booting,
    /// Ready to reboot, or on its way down.
    Rebooting(Down),
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Down {
    /// Waits for the others.
    Waiting,
    /// Asked to reboot in order at this time.
    Asked(SystemTime),
    /// The reset button was pressed.
    Forced,
}

/// What follows from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on waiting.
    Wait,
    /// The machine is to be rebooted; tell [`Progress::rebooting`] when it was asked to, and
    /// [`Progress::restarted`] when it does.
    Reboot,
    /// It does not listen: press the reset button.
    Force,
    /// The machine did all that was asked.
    Done,
    /// It never will.
    Failed(String),
}

impl Progress {
    /// A machine that was just switched on.
    pub(super) fn new(goal: Goal) -> Self {
        Self { goal, boot: Boot::First, seen: Seen::default(), state: State::Booting }
    }

    /// The boot at hand.
    pub(super) fn boot(&self) -> Boot {
        self.boot
    }

    /// Whether nothing more is awaited.
    pub(super) fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Takes in what the console said.
    pub(super) fn console(&mut self, event: &SerialEvent, now: SystemTime) -> Next {
        if self.state != State::Booting {
            return Next::Wait;
        }
        match event {
            SerialEvent::Login => drop(self.seen.login.get_or_insert(now)),
            SerialEvent::Marker(marker) => self.seen.marker = Some(marker.clone()),
            SerialEvent::Wrote => self.seen.wrote = true,
            SerialEvent::Stuck(line) => return self.fail(format!("it stopped: {line}")),
            SerialEvent::Kernel => {}
        }
        self.decide()
    }

    /// The machine was asked to reboot.
    pub(super) fn rebooting(&mut self, now: SystemTime) {
        if self.wants_reboot() {
            self.state = State::Rebooting(Down::Asked(now));
        }
    }

    /// Whether the machine waits to be rebooted.
    pub(super) fn wants_reboot(&self) -> bool {
        self.state == State::Rebooting(Down::Waiting)
    }

    /// Takes in that time passes.
    pub(super) fn tick(&mut self, now: SystemTime) -> Next {
        if let State::Rebooting(Down::Asked(since)) = self.state
            && now.duration_since(since).is_ok_and(|waited| waited >= REBOOT_PATIENCE)
        {
            self.state = State::Rebooting(Down::Forced);
            return Next::Force;
        }
        let waited = self.seen.login.and_then(|login| now.duration_since(login).ok());
        if self.state != State::Booting || waited.is_none_or(|waited| waited < SERVICE_PATIENCE) {
            return Next::Wait;
        }
        let missing = if self.seen.marker.is_none() { "HEADWATER-MARKER" } else { "HEADWATER-WROTE" };
        self.fail(format!(
            "it reached its login prompt, but its console never said {missing}: \
             is this the image of `cargo xtask image`?"
        ))
    }

    /// The machine has reset.
    pub(super) fn restarted(&mut self) -> Next {
        match self.state {
            State::Rebooting(_) => {
                (self.boot, self.seen, self.state) = (Boot::Second, Seen::default(), State::Booting);
                Next::Wait
            }
            State::Booting if self.goal == Goal::WritesGone && self.seen.login.is_some() => {
                self.fail("it rebooted by itself".to_owned())
            }
            // Before its login prompt a machine may try again (a boot script that waits does); a
            // loop of it ends with the overall time-out.
            State::Booting | State::Ended => Next::Wait,
        }
    }

    fn decide(&mut self) -> Next {
        if self.goal == Goal::Login {
            return if self.seen.login.is_some() { self.end(Next::Done) } else { Next::Wait };
        }
        let Seen { login: Some(_), marker: Some(marker), wrote: true } = &self.seen else {
            return Next::Wait;
        };
        if let Some(fault) = fault_of(marker, self.boot) {
            return self.fail(fault);
        }
        match self.boot {
            Boot::First => {
                self.state = State::Rebooting(Down::Waiting);
                Next::Reboot
            }
            Boot::Second => self.end(Next::Done),
        }
    }

    fn end(&mut self, next: Next) -> Next {
        self.state = State::Ended;
        next
    }

    fn fail(&mut self, why: String) -> Next {
        self.end(Next::Failed(why))
    }
}

fn fault_of(marker: &Marker, boot: Boot) -> Option<String> {
    if !marker.root.starts_with("/dev/nbd") {
        return Some(format!("its root file system is on {:?}, not on a streamed disk", marker.root));
    }
    match (marker.disk, boot) {
        (DiskState::Clean, _) => None,
        (DiskState::Dirty, Boot::First) => Some("its first boot found a used disk".to_owned()),
        (DiskState::Dirty, Boot::Second) => Some("what it wrote is still there after the reboot".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: SystemTime = SystemTime::UNIX_EPOCH;

    fn marker(disk: DiskState) -> SerialEvent {
        let root = "/dev/nbd0p1".to_owned();
        SerialEvent::Marker(Marker { host: "lab-001".to_owned(), disk, root })
    }

    fn boot(progress: &mut Progress, disk: DiskState) -> Next {
        assert_eq!(progress.console(&marker(disk), T0), Next::Wait);
        assert_eq!(progress.console(&SerialEvent::Wrote, T0), Next::Wait);
        progress.console(&SerialEvent::Login, T0)
    }

    #[test]
    fn two_clean_boots_with_a_write_in_each_are_the_goal() {
        let mut progress = Progress::new(Goal::WritesGone);
        assert_eq!(boot(&mut progress, DiskState::Clean), Next::Reboot);
        assert_eq!(progress.restarted(), Next::Wait);
        assert_eq!(progress.restarted(), Next::Wait, "one reset is announced several times");
        assert_eq!(progress.boot(), Boot::Second);
        assert_eq!(boot(&mut progress, DiskState::Clean), Next::Done);
        assert!(progress.ended());
    }

    #[test]
    fn a_write_that_survives_is_a_failure() {
        let mut progress = Progress::new(Goal::WritesGone);
        boot(&mut progress, DiskState::Clean);
        progress.restarted();
        let Next::Failed(why) = boot(&mut progress, DiskState::Dirty) else { panic!("it must fail") };
        assert!(why.contains("still there"), "{why}");
    }

    #[test]
    fn a_root_file_system_from_elsewhere_does_not_count() {
        let mut progress = Progress::new(Goal::WritesGone);
        let local = Marker { root: "/dev/vda1".to_owned(), disk: DiskState::Clean, ..Marker::default() };
        progress.console(&SerialEvent::Marker(local), T0);
        progress.console(&SerialEvent::Wrote, T0);
        let Next::Failed(why) = progress.console(&SerialEvent::Login, T0) else { panic!("it must fail") };
        assert!(why.contains("/dev/vda1"), "{why}");
    }

    #[test]
    fn what_the_first_boot_says_while_it_goes_down_is_not_the_second_boot() {
        let mut progress = Progress::new(Goal::WritesGone);
        boot(&mut progress, DiskState::Clean);
        assert_eq!(boot(&mut progress, DiskState::Dirty), Next::Wait);
        assert_eq!(progress.boot(), Boot::First);
    }

    #[test]
    fn a_machine_that_does_not_reboot_is_reset_once() {
        let mut progress = Progress::new(Goal::WritesGone);
        boot(&mut progress, DiskState::Clean);
        assert!(progress.wants_reboot());
        assert_eq!(progress.tick(T0 + REBOOT_PATIENCE), Next::Wait, "it was not asked yet");
        progress.rebooting(T0);
        assert_eq!(progress.tick(T0 + REBOOT_PATIENCE / 2), Next::Wait);
        assert_eq!(progress.tick(T0 + REBOOT_PATIENCE), Next::Force);
        assert_eq!(progress.tick(T0 + REBOOT_PATIENCE * 2), Next::Wait);
        progress.restarted();
        assert_eq!(progress.boot(), Boot::Second);
    }

    #[test]
    fn a_stock_image_is_done_at_its_login_prompt() {
        let mut progress = Progress::new(Goal::Login);
        assert_eq!(progress.console(&SerialEvent::Kernel, T0), Next::Wait);
        assert_eq!(progress.console(&SerialEvent::Login, T0), Next::Done);
    }

    #[test]
    fn an_image_without_the_service_fails_some_time_after_its_prompt() {
        let mut progress = Progress::new(Goal::WritesGone);
        assert_eq!(progress.tick(T0 + SERVICE_PATIENCE), Next::Wait);
        progress.console(&SerialEvent::Login, T0);
        assert_eq!(progress.tick(T0 + SERVICE_PATIENCE / 2), Next::Wait);
        assert!(matches!(progress.tick(T0 + SERVICE_PATIENCE), Next::Failed(_)));
    }

    #[test]
    fn a_machine_that_stops_fails_at_once() {
        let mut progress = Progress::new(Goal::Login);
        let panic = SerialEvent::Stuck("Kernel panic".to_owned());
        assert_eq!(progress.console(&panic, T0), Next::Failed("it stopped: Kernel panic".to_owned()));
    }
}
