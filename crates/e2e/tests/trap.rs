//! The trap, step by step, with real machines: whatever an admin does in whatever order, what a
//! maintenance machine wrote is either what production boots, or production boots what it did.
//!
//! Also here, because they need the same machines: who a device is, and the boot menu.

use anyhow::{Result, ensure};
use headwater_e2e::Machine;
use headwater_e2e::machine::Hardware;
use headwater_e2e::scene::{Scene, Unknown, Wishes};
use std::time::{Duration, Instant};

/// As in `boot_matrix`: a boot takes 30 to 60 s on two idle cores.
const BOOT: Duration = Duration::from_secs(300);
/// For a command in the guest.
const COMMAND: Duration = Duration::from_secs(120);
/// systemd waits 90 s for a unit that does not stop.
const SHUTDOWN: Duration = Duration::from_secs(80);
/// For the lease to come back after the machine has said that it is done: no time-out of a
/// connection is as short on a busy machine, and all of them are longer on an idle one.
const GIVEN_BACK: Duration = Duration::from_secs(10);

/// Sixty files with their sums, each flushed before the next; the sums are kept in memory, too.
const WRITE_SLOWLY: &str = "mkdir -p /opt/trap /etc/ssh; (cd /opt/trap; for n in $(seq 1 60); do \
    dd if=/dev/urandom of=f$n bs=64k count=8 conv=fsync 2>/dev/null && sha256sum f$n >> /run/sums; done; \
    cp /run/sums sums; sync; echo done > /run/done) >/dev/null 2>&1 & true";
/// Whether all sixty are there and whole, as the disk has them.
const IS_WHOLE: &str = "cd /opt/trap && test $(wc -l < sums) = 60 && sha256sum --quiet -c sums; cd /";
const DROP_CACHES: &str = "sync; echo 3 > /proc/sys/vm/drop_caches";

#[test]
fn what_a_maintenance_machine_wrote_is_promoted_or_the_promotion_is_refused() -> Result<()> {
    let mut scene = Scene::new(Wishes { unknown: Unknown::Wait, ..Wishes::default() })?;
    let (production, second, maintenance, late) =
        (Hardware::new(1), Hardware::new(2), Hardware::new(7), Hardware::new(8));
    add(&scene, &production, &["--name", "p-01"])?;
    add(&scene, &second, &["--name", "p-02"])?;
    add(&scene, &maintenance, &["--name", "m-07", "--kind", "maintenance"])?;
    add(&scene, &late, &["--name", "m-08", "--kind", "maintenance"])?;

    let mut running = booted(&scene, &production)?;
    scene.cli(&["version", "create", "debian", "--comment", "updates"])?;
    promotion_is_refused(&scene, "before anybody has written")?;

    let mut writer = booted(&scene, &maintenance)?;
    scene.explained(writer.run(WRITE_SLOWLY, COMMAND))?;
    promotion_is_refused(&scene, "while the machine writes")?;
    let said = scene.refused(&["version", "seal", "debian", "2"])?;
    ensure!(said.contains("m-07"), "the seal does not name who holds the draft: {said}");
    is_refused_by_name(&scene, &late)?;

    goes_on_without_its_server(&mut scene, &mut writer, &mut running)?;
    promotion_is_refused(&scene, "while the machine runs")?;
    let (ended, given_back) = shut_down(&scene, &mut writer)?;
    eprintln!("the machine was off after {ended:?}, the lease was back {given_back:?} later");
    promotion_is_refused(&scene, "before the version is sealed")?;

    scene.cli(&["version", "seal", "debian", "2"])?;
    ensure!(is_on_version(&scene, &mut running, 1)?, "sealing touched a running machine");
    scene.cli(&["version", "promote", "debian", "2", "--to", "production"])?;
    ensure!(is_on_version(&scene, &mut running, 1)?, "promoting touched a running machine");
    let before = Identity::of(&mut running)?;

    restarted(&scene, &mut running)?;
    ensure!(is_on_version(&scene, &mut running, 2)?, "the next boot has another version");
    let first = Identity::of(&mut running)?;
    ensure!(first.hostname == "p-01", "{first:?}");
    ensure!((&first.hostname, &first.machine_id) == (&before.hostname, &before.machine_id), "{first:?}");
    let mut other = booted(&scene, &second)?;
    ensure!(is_on_version(&scene, &mut other, 2)?, "a second machine boots another version");
    let second = Identity::of(&mut other)?;
    second.is_another(&first)?;
    drop(other);

    scene.cli(&["version", "revert", "debian"])?;
    ensure!(is_on_version(&scene, &mut running, 2)?, "reverting touched a running machine");
    restarted(&scene, &mut running)?;
    ensure!(is_on_version(&scene, &mut running, 1)?, "the boot after the revert has the bad version");
    Ok(())
}

#[test]
fn sealed_too_early_or_cut_off_in_the_middle_nothing_that_was_flushed_is_lost() -> Result<()> {
    let scene = Scene::new(Wishes { unknown: Unknown::Wait, ..Wishes::default() })?;
    let (production, maintenance) = (Hardware::new(1), Hardware::new(7));
    add(&scene, &production, &["--name", "p-01"])?;
    add(&scene, &maintenance, &["--name", "m-07", "--kind", "maintenance"])?;

    // Sealed and promoted before anybody wrote: the machine finds no draft, so it cannot write what
    // nobody would ever see.
    scene.cli(&["version", "create", "debian"])?;
    scene.cli(&["version", "seal", "debian", "2"])?;
    let mut writer = scene.machine(&maintenance)?;
    scene.explained(writer.console.wait_for("in maintenance", BOOT))?;
    scene.cli(&["version", "promote", "debian", "2", "--to", "production"])?;
    scene.cli(&["version", "create", "debian"])?;
    is_up(&scene, &mut writer)?;

    // The power fails while it writes.
    scene.explained(writer.run(WRITE_SLOWLY, COMMAND))?;
    scene.explained(writer.run("while test $(cat /run/sums | wc -l) -lt 5; do sleep 0.2; done", COMMAND))?;
    let flushed = writer.read("tr '\\n' ';' < /run/sums", COMMAND)?;
    drop(writer);
    if let Err(held) = scene.cli(&["version", "seal", "debian", "3"]) {
        let held = format!("{held:#}");
        ensure!(held.contains("m-07"), "the seal does not name who holds the draft: {held}");
        scene.cli(&["version", "release", "debian", "3"])?;
        scene.cli(&["version", "seal", "debian", "3"])?;
    }
    scene.cli(&["version", "promote", "debian", "3", "--to", "production"])?;
    let mut reader = booted(&scene, &production)?;
    let check = format!("cd /opt/trap && echo '{flushed}' | tr ';' '\\n' | grep . | sha256sum --quiet -c");
    ensure!(flushed.matches(" f").count() >= 5, "too few files were flushed: {flushed}");
    ensure!(reader.run(&check, COMMAND)? == 0, "what was flushed is not there:\n{}", reader.shell_lines());
    Ok(())
}

#[test]
fn a_device_with_two_vdisks_chooses_on_its_screen() -> Result<()> {
    let scene = Scene::new(Wishes { unknown: Unknown::Wait, ..Wishes::default() })?;
    let hardware = Hardware::new(11);
    scene.cli(&["version", "branch", "debian", "1", "other"])?;
    add(&scene, &hardware, &["--name", "two", "--vdisk", "debian", "--vdisk", "other"])?;
    let mut machine = scene.machine(&hardware)?;
    scene.explained(machine.console.wait_for_screen("what shall two start?", BOOT))?;
    machine.console.press("2")?;
    machine.console.press("\r")?;
    is_up(&scene, &mut machine)?;
    boots_of(&scene, "other", 1)?;
    boots_of(&scene, "debian", 0)?;

    // Nobody presses a key this time.
    machine.send("systemctl reboot")?;
    is_up(&scene, &mut machine)?;
    boots_of(&scene, "debian", 1)?;
    ensure!(Identity::of(&mut machine)?.hostname == "two", "another name at the second boot");
    Ok(())
}

fn add(scene: &Scene, hardware: &Hardware, more: &[&str]) -> Result<()> {
    let words = [&["device", "add", hardware.mac.as_str()], more].concat();
    scene.cli(&words).map(drop)
}

fn booted(scene: &Scene, hardware: &Hardware) -> Result<Machine> {
    let mut machine = scene.machine(hardware)?;
    is_up(scene, &mut machine)?;
    Ok(machine)
}

fn is_up(scene: &Scene, machine: &mut Machine) -> Result<()> {
    scene.explained(machine.wait_for_marker(BOOT + SHUTDOWN))?;
    scene.explained(machine.wait_for_shell(COMMAND))
}

fn restarted(scene: &Scene, machine: &mut Machine) -> Result<()> {
    machine.send("systemctl reboot")?;
    is_up(scene, machine)
}

fn promotion_is_refused(scene: &Scene, when: &str) -> Result<()> {
    for to in ["test", "production"] {
        let said = scene.refused(&["version", "promote", "debian", "2", "--to", to])?;
        ensure!(said.contains("hint:"), "refused {when} without a hint: {said}");
    }
    Ok(())
}

/// A second maintenance machine is shown who has the draft, and admins are told.
fn is_refused_by_name(scene: &Scene, late: &Hardware) -> Result<()> {
    let mut machine = scene.machine(late)?;
    let line = scene.explained(machine.console.wait_for("m-07", BOOT))?;
    ensure!(line.contains("hw1") && line.contains("since"), "not who, where and since when: {line}");
    scene.wait_for_cli(&["events"], "boot-refused", COMMAND)
}

/// The server is killed while the machine writes, and comes back.
fn goes_on_without_its_server(scene: &mut Scene, writer: &mut Machine, reader: &mut Machine) -> Result<()> {
    let some = "while test $(cat /run/sums | wc -l) -lt 5; do sleep 0.2; done";
    scene.explained(writer.run(some, COMMAND))?;
    scene.kill_server()?;
    ensure!(writer.run("test -e /run/done", COMMAND)? != 0, "it had written everything before the kill");
    scene.start_server_again()?;
    let rest = "while ! test -e /run/done; do sleep 0.5; done";
    scene.explained(writer.run(rest, COMMAND))?;
    writer.run(DROP_CACHES, COMMAND)?;
    let whole = writer.run(IS_WHOLE, COMMAND)?;
    ensure!(whole == 0, "the files are not whole:\n{}\n{}", writer.shell_lines(), scene.log());
    ensure!(reader.run("ls /usr/bin > /dev/null", COMMAND)? == 0, "a running machine lost its disk");
    Ok(())
}

/// Switches the machine off; answers how long that took, and how long until nobody held the draft.
fn shut_down(scene: &Scene, machine: &mut Machine) -> Result<(Duration, Duration)> {
    let began = Instant::now();
    machine.send("systemctl poweroff")?;
    scene.explained(machine.wait_for_power_off(SHUTDOWN))?;
    let off = Instant::now();
    while scene.cli(&["version", "show", "debian", "2"])?.contains("m-07") {
        ensure!(off.elapsed() < GIVEN_BACK, "the draft is still held:\n{}", scene.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((off - began, off.elapsed()))
}

/// Whether the machine's disk is that of version 1, without the files, or of version 2, with them
/// whole.
fn is_on_version(scene: &Scene, machine: &mut Machine, version: u32) -> Result<bool> {
    machine.run(DROP_CACHES, COMMAND)?;
    let found = match version {
        1 => scene.explained(machine.run("test ! -e /opt/trap", COMMAND))?,
        _ => scene.explained(machine.run(IS_WHOLE, COMMAND))?,
    };
    Ok(found == 0)
}

fn boots_of(scene: &Scene, vdisk: &str, expected: usize) -> Result<()> {
    let events = scene.cli(&["events"])?;
    let boots = events.lines().filter(|line| line.contains(&format!("two boots {vdisk} version 1"))).count();
    ensure!(boots == expected, "{boots} boots of {vdisk} instead of {expected}:\n{events}");
    Ok(())
}

/// Who a machine says that it is.
#[derive(Debug)]
struct Identity {
    hostname: String,
    machine_id: String,
    ssh_key: String,
}

impl Identity {
    fn of(machine: &mut Machine) -> Result<Self> {
        Ok(Self {
            hostname: machine.read("hostname", COMMAND)?,
            machine_id: machine.read("cat /etc/machine-id", COMMAND)?,
            ssh_key: machine.read("cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub", COMMAND)?,
        })
    }

    fn is_another(&self, other: &Self) -> Result<()> {
        let same = self.hostname == other.hostname
            || self.machine_id == other.machine_id
            || self.ssh_key == other.ssh_key;
        let complete = |one: &Self| one.machine_id.len() == 32 && one.ssh_key.starts_with("AAAAC3NzaC1lZDI1");
        ensure!(!same && complete(self) && complete(other), "{self:?} and {other:?}");
        Ok(())
    }
}
