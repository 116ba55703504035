//! The trap on three servers with real machines and slow links: pvs01 makes a version, the
//! maintenance machine boots from pvs03 and writes there, an admin promotes on pvs01 at once.
//!
//! Whatever the order, production machines boot the changes from every server, or the promotion was
//! refused. `tests/handover.rs` does more orders without machines; `last_writer_wins` in
//! `crates/sim` is what plain files and a copy loop make of it.

use anyhow::{Result, ensure};
use headwater_e2e::Machine;
use headwater_e2e::farm::{Farm, Layout};
use headwater_e2e::machine::Hardware;
use headwater_e2e::{figure, needs};
use std::time::{Duration, Instant};

/// As in `boot_matrix`, and over a slow link to what is not here yet.
const BOOT: Duration = Duration::from_secs(400);
/// For a command in the guest.
const COMMAND: Duration = Duration::from_secs(120);
/// systemd waits 90 s for a unit that does not stop.
const SHUTDOWN: Duration = Duration::from_secs(80);
/// For an image of 1 GiB to reach two servers on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(300);
/// What the servers may send each other: what the machine writes takes minutes to travel.
const LINK_MBIT: f64 = 4.0;
/// MiB of random bytes that the machine writes.
const WRITTEN_MIB: u32 = 32;

/// What the maintenance machine does; its sums are on the disk beside the files.
const WRITE: &str = "mkdir -p /opt/trap; (cd /opt/trap; for n in $(seq 1 32); do \
    dd if=/dev/urandom of=f$n bs=1M count=1 conv=fsync 2>/dev/null && sha256sum f$n >> sums; done; \
    sync; echo done > /run/done) >/dev/null 2>&1 & true";
/// Whether all of it is there and whole, as the disk has it.
const IS_WHOLE: &str = "sync; echo 3 > /proc/sys/vm/drop_caches; \
    cd /opt/trap && test $(wc -l < sums) = 32 && sha256sum --quiet -c sums; cd /";

#[test]
fn production_boots_what_was_written_on_another_server_or_the_promotion_was_refused() -> Result<()> {
    let began = Instant::now();
    let image = needs::image("debian-initramfs")?;
    let farm = Farm::new(Layout::default())?;
    farm.cli(0, &["vdisk", "import", "debian", &image.display().to_string()])?;
    farm.wait_until_complete("debian", 1, ARRIVAL)?;
    let set = ["collection", "set", "default", "--vdisk", "debian", "--cache", "256MiB"];
    farm.cli(0, &[&set[..], &["--auto-add", "on", "--boot-args", "console=ttyS0"]].concat())?;
    let maintenance = Hardware::new(7);
    farm.cli(0, &["device", "add", &maintenance.mac, "--name", "m-07", "--kind", "maintenance"])?;
    for n in 0..farm.count() {
        farm.limit(n, LINK_MBIT)?;
    }

    // The trap: the version is made on pvs01, the machine boots from pvs03.
    farm.cli(0, &["version", "create", "debian", "--comment", "updates"])?;
    let mut refusals = 0;
    let mut refused = |when: &str| {
        for n in 0..farm.count() {
            let said = farm.refused(n, &["version", "promote", "debian", "2", "--to", "production"])?;
            ensure!(said.contains("hint:"), "refused {when} on {} without a hint: {said}", farm.name(n));
            refusals += 1;
        }
        Ok(())
    };
    refused("before anybody boots")?;
    let mut writer = farm.machine(&maintenance, 2)?;
    is_up(&farm, &mut writer)?;
    ensure!(farm.cli(0, &["version", "show", "debian", "2"])?.contains("device m-07 on server pvs03"));
    farm.explained(writer.run(WRITE, COMMAND))?;
    refused("while the machine writes")?;
    farm.explained(writer.run("while ! test -e /run/done; do sleep 0.5; done", BOOT))?;
    refused("when the machine has written")?;
    let said = farm.refused(0, &["version", "seal", "debian", "2"])?;
    ensure!(said.contains("m-07") && said.contains("pvs03"), "not who holds it, and where: {said}");
    writer.send("systemctl poweroff")?;
    farm.explained(writer.wait_for_power_off(SHUTDOWN))?;
    drop(writer);
    refused("after the machine is off")?;
    let held = || Ok(!farm.cli(0, &["version", "show", "debian", "2"])?.contains("m-07"));
    farm.wait_for("the machine gives the draft back", COMMAND, held)?;

    // The bytes need minutes to come to pvs01: sealing there is refused, and names who has them.
    let said = farm.refused(0, &["version", "seal", "debian", "2"])?;
    ensure!(said.contains("pvs03"), "who has the changes is not named: {said}");
    refused("before it is sealed")?;
    farm.cli(2, &["version", "seal", "debian", "2"])?;
    ensure!(!farm.is_complete(0, "debian", 2)?, "the links are not slow enough for this test");
    farm.cli(0, &["version", "promote", "debian", "2", "--to", "production"])?;
    let promoted = began.elapsed();

    // From every server at once, also from those that have a part of it only.
    for n in [2, 0, 1] {
        let mut machine = farm.machine(&Hardware::new(20 + n as u8), n)?;
        is_up(&farm, &mut machine)?;
        let partly = !farm.is_complete(n, "debian", 2)?;
        ensure!(
            farm.explained(machine.run(IS_WHOLE, BOOT))? == 0,
            "{} serves a version without the changes:\n{}\n{}",
            farm.name(n),
            machine.shell_lines(),
            farm.logs()
        );
        eprintln!(
            "{}: all {WRITTEN_MIB} files are whole; it had a part of them only: {partly}",
            farm.name(n)
        );
    }
    figure::print(&format!(
        "trap-three-servers: {refusals} promotions refused in time, promoted after {:.0} s with links of {LINK_MBIT} Mbit/s; \
         {WRITTEN_MIB} of {WRITTEN_MIB} files whole on machines booted from each of 3 servers",
        promoted.as_secs_f64()
    ));
    Ok(())
}

fn is_up(farm: &Farm, machine: &mut Machine) -> Result<()> {
    farm.explained(machine.wait_for_marker(BOOT))?;
    farm.explained(machine.wait_for_shell(COMMAND))
}
