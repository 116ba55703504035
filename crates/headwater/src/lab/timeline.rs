//! One machine's boot as the lab shows it: which steps were reached, and when after power-on.
//!
//! Steps come from two witnesses, the server's session and the serial console; both run on this
//! machine's clock. What is drawn from a timeline is in `table.rs`.

use std::time::{Duration, SystemTime};

/// A step of a boot, in the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The server gave the machine its iPXE script.
    Script,
    /// The machine asked for its kernel.
    KernelFile,
    /// The machine asked for its initrd.
    InitrdFile,
    /// The agent in the initrd came up.
    AgentStarted,
    /// The kernel has the disk.
    DiskAttached,
    /// The first block was read.
    FirstRead,
    /// The image's own init runs.
    Running,
    /// Somebody could log in.
    Login,
}

impl Step {
    /// All steps in order.
    pub(super) const ALL: [Self; 8] = [
        Self::Script,
        Self::KernelFile,
        Self::InitrdFile,
        Self::AgentStarted,
        Self::DiskAttached,
        Self::FirstRead,
        Self::Running,
        Self::Login,
    ];

    /// What people read.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Script => "script fetched",
            Self::KernelFile => "kernel",
            Self::InitrdFile => "initrd",
            Self::AgentStarted => "agent started",
            Self::DiskAttached => "disk attached",
            Self::FirstRead => "first read",
            Self::Running => "running",
            Self::Login => "login prompt",
        }
    }

    /// The step that a label of the server's session timeline means; the server also records
    /// steps that the lab does not draw.
    pub(super) fn of_session(label: &str) -> Option<Self> {
        match label {
            "kernel fetched" => Some(Self::KernelFile),
            "initrd fetched" => Some(Self::InitrdFile),
            other => Self::ALL.into_iter().find(|step| step.label() == other && *step != Self::Login),
        }
    }
}

/// The steps of one boot of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timeline {
    power_on: SystemTime,
    reached: [Option<Duration>; Step::ALL.len()],
}

impl Timeline {
    /// A boot that began at `power_on`.
    pub(super) fn new(power_on: SystemTime) -> Self {
        Self { power_on, reached: [None; Step::ALL.len()] }
    }

    /// When the boot began.
    pub(super) fn power_on(&self) -> SystemTime {
        self.power_on
    }

    /// Notes a step; answers whether it is news. The first witness counts, and what happened
    /// before power-on belongs to the boot before.
    pub(super) fn note(&mut self, step: Step, at: SystemTime) -> bool {
        let Ok(after) = at.duration_since(self.power_on) else { return false };
        let slot = &mut self.reached[step as usize];
        let news = slot.is_none();
        slot.get_or_insert(after);
        news
    }

    /// How long after power-on a step was reached.
    pub(super) fn at(&self, step: Step) -> Option<Duration> {
        self.reached[step as usize]
    }

    /// When the latest step so far was reached that comes before `step`: where its bar begins.
    pub(super) fn before(&self, step: Step) -> Duration {
        let earlier = Step::ALL.into_iter().filter(|other| *other < step);
        earlier.filter_map(|other| self.at(other)).max().unwrap_or_default()
    }

    /// The first step that has not been reached: what the machine is busy with.
    pub(super) fn next(&self) -> Option<Step> {
        let furthest = Step::ALL.into_iter().rev().find(|step| self.at(*step).is_some());
        Step::ALL.into_iter().find(|step| furthest.is_none_or(|reached| *step > reached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POWER_ON: SystemTime = SystemTime::UNIX_EPOCH;

    fn second(n: u64) -> SystemTime {
        POWER_ON + Duration::from_secs(n)
    }

    #[test]
    fn the_first_witness_of_a_step_counts() {
        let mut timeline = Timeline::new(second(10));
        assert!(timeline.note(Step::Script, second(12)));
        assert!(!timeline.note(Step::Script, second(15)));
        assert_eq!(timeline.at(Step::Script), Some(Duration::from_secs(2)));
    }

    #[test]
    fn steps_of_the_boot_before_are_not_taken() {
        let mut timeline = Timeline::new(second(10));
        assert!(!timeline.note(Step::Login, second(9)));
        assert_eq!(timeline.at(Step::Login), None);
    }

    #[test]
    fn a_bar_begins_where_the_latest_earlier_step_ended() {
        let mut timeline = Timeline::new(POWER_ON);
        timeline.note(Step::Script, second(2));
        timeline.note(Step::InitrdFile, second(5));
        assert_eq!(timeline.before(Step::Script), Duration::ZERO);
        assert_eq!(timeline.before(Step::AgentStarted), Duration::from_secs(5));
        assert_eq!(timeline.next(), Some(Step::AgentStarted));
    }

    #[test]
    fn session_labels_are_the_steps_that_a_server_can_see() {
        assert_eq!(Step::of_session("kernel fetched"), Some(Step::KernelFile));
        assert_eq!(Step::of_session("agent started"), Some(Step::AgentStarted));
        assert_eq!(Step::of_session("login prompt"), None);
        assert_eq!(Step::of_session("plan fetched"), None);
    }
}
