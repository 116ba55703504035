//! What the floor makes of consoles, notices and sessions.

use super::*;

const T0: SystemTime = SystemTime::UNIX_EPOCH;
const CLEAN: &str =
    "HEADWATER-MARKER host=x boot=clean kernel=6 root=/dev/nbd0p1\nHEADWATER-WROTE\nx login: ";
const DIRTY: &str =
    "\nHEADWATER-MARKER host=x boot=dirty kernel=6 root=/dev/nbd0p1\nHEADWATER-WROTE\nx login: ";

fn at(second: u64) -> SystemTime {
    T0 + Duration::from_secs(second)
}

fn mac(machine: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, u8::try_from(machine).unwrap()])
}

fn floor(goal: Goal) -> Floor {
    Floor::new(goal, &[(mac(0), T0), (mac(1), T0)])
}

fn says(floor: &mut Floor, machine: usize, text: &str, second: u64) -> Vec<Effect> {
    floor.apply(Event::Console { machine, bytes: text.into() }, at(second))
}

fn reset(floor: &mut Floor, machine: usize, second: u64) -> Vec<Effect> {
    floor.apply(Event::Notice { machine, notice: Notice::Reset }, at(second))
}

fn without_steps(effects: Vec<Effect>) -> Vec<Effect> {
    effects.into_iter().filter(|effect| !matches!(effect, Effect::Step(_) | Effect::Say(_))).collect()
}

#[test]
fn machines_reboot_together_and_are_done_together() {
    let mut floor = floor(Goal::WritesGone);
    assert_eq!(without_steps(says(&mut floor, 0, CLEAN, 30)), []);
    let keys = |machine| Effect::Tell(machine, Command::CtrlAltDel);
    assert_eq!(without_steps(says(&mut floor, 1, CLEAN, 33)), [Effect::BootEnded, keys(0), keys(1)]);
    for machine in [0, 1, 0, 0] {
        assert_eq!(without_steps(reset(&mut floor, machine, 36)), []);
    }
    assert_eq!(without_steps(says(&mut floor, 0, &format!("\n{CLEAN}"), 64)), []);
    let all = [Effect::BootEnded, Effect::AllDone];
    assert_eq!(without_steps(says(&mut floor, 1, &format!("\n{CLEAN}"), 66)), all);
    let seconds = |list: &[u64]| list.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
    assert_eq!(floor.logins(), [seconds(&[30, 33]), seconds(&[28, 30])]);
    assert_eq!(floor.apply(Event::Tick, at(500)), [], "done is said once");
}

#[test]
fn a_write_that_survives_fails_the_lab() {
    let mut floor = floor(Goal::WritesGone);
    says(&mut floor, 0, CLEAN, 30);
    says(&mut floor, 1, CLEAN, 30);
    reset(&mut floor, 0, 33);
    let effects = without_steps(says(&mut floor, 0, DIRTY, 60));
    assert!(matches!(&effects[..], [Effect::Failed { machine: 0, why }] if why.contains("still there")));
}

#[test]
fn sessions_name_machines_and_fill_their_timelines() {
    let mut floor = floor(Goal::Login);
    let news = SessionNews {
        mac: mac(1),
        device: "lab-001".to_owned(),
        steps: vec![("script fetched".to_owned(), at(5)), ("plan fetched".to_owned(), at(6))],
        read_bytes: Some(3 << 20),
        cache_bytes: Some((1, 256 << 20)),
    };
    let effects = floor.apply(Event::Sessions(vec![news.clone()]), at(6));
    assert_eq!(effects, [Effect::Step("    5.0 s  lab-001      script fetched".to_owned())]);
    assert_eq!(floor.apply(Event::Sessions(vec![news]), at(7)), [], "known steps are no news");
    let columns = floor.columns(at(9));
    assert_eq!((columns[0].title.as_str(), columns[1].title.as_str()), ("machine-1", "lab-001"));
    assert_eq!(columns[1].note, "read 3 MiB, cache 1/256 MiB");
    assert_eq!(columns[1].busy, Some(Duration::from_secs(9)));
}

#[test]
fn a_machine_that_goes_away_fails_before_its_end_only() {
    let mut floor = floor(Goal::Login);
    says(&mut floor, 0, "x login: ", 30);
    assert_eq!(floor.apply(Event::Gone { machine: 0 }, at(31)), [Effect::Say("machine-1 is off".to_owned())]);
    let effects = floor.apply(Event::Gone { machine: 1 }, at(31));
    assert!(matches!(effects[..], [Effect::Failed { machine: 1, .. }]));
}

#[test]
fn a_machine_that_ignores_the_keys_is_reset() {
    let mut floor = floor(Goal::WritesGone);
    says(&mut floor, 0, CLEAN, 30);
    says(&mut floor, 1, CLEAN, 30);
    reset(&mut floor, 1, 33);
    assert_eq!(floor.apply(Event::Tick, at(91)), [Effect::Tell(0, Command::Reset)]);
}

#[test]
fn the_laggard_is_named_with_what_it_is_busy_with() {
    let mut floor = floor(Goal::Login);
    says(&mut floor, 0, "x login: ", 30);
    assert_eq!(floor.laggard(), Some((1, "script fetched")));
    says(&mut floor, 1, "x login: ", 31);
    assert_eq!(floor.laggard(), None);
}
