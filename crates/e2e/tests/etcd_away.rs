//! The farm's records are away: production goes on on every server, changes are refused with a clear
//! message, and all heals by itself. The show's form lasts 10 minutes and boots a machine.

use anyhow::{Result, ensure};
use headwater_e2e::client::{boot, qemu_io};
use headwater_e2e::farm::{Farm, Layout};
use headwater_e2e::machine::Hardware;
use headwater_e2e::{figure, needs};
use std::time::{Duration, Instant};

/// For the image to reach every server, on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(300);
/// For a machine to boot.
const BOOT: Duration = Duration::from_secs(400);

#[test]
fn without_its_database_the_farm_boots_and_reads_and_refuses_changes_and_heals() -> Result<()> {
    let away = Duration::from_secs(if figure::is_shown() { 600 } else { 8 });
    let image = needs::image("debian-initramfs")?;
    let mut farm = Farm::new(Layout::default())?;
    farm.cli(0, &["vdisk", "import", "debian", &image.display().to_string()])?;
    farm.wait_until_complete("debian", 1, ARRIVAL)?;
    let set = ["collection", "set", "default", "--vdisk", "debian", "--cache", "256MiB"];
    farm.cli(0, &[&set[..], &["--boot-args", "console=ttyS0"]].concat())?;
    let (known, hardware) = (Hardware::new(30), Hardware::new(31));
    farm.cli(0, &["device", "add", &known.mac, "--name", "pc-30"])?;
    farm.cli(0, &["device", "add", &hardware.mac, "--name", "pc-31"])?;
    farm.cli(0, &["version", "create", "debian"])?;
    farm.cli(0, &["version", "seal", "debian", "2"])?;
    farm.wait_until_complete("debian", 2, ARRIVAL)?;
    let before = boot(farm.host(0), &farm.host(0).address, &known.mac)?;

    farm.etcd.kill()?;
    let began = Instant::now();
    let mut reads = 0;
    loop {
        for n in 0..farm.count() {
            // A device that boots now, and one that booted before.
            let booted = farm.explained(boot(farm.host(n), &farm.host(n).address, &known.mac))?;
            ensure!(booted.fetched_bytes > 1 << 20, "{} gives a short kernel", farm.name(n));
            farm.explained(qemu_io(farm.host(n), &booted.uri, &["read 1M 8M"]))?;
            reads += 1;
        }
        farm.explained(qemu_io(farm.host(0), &before.uri, &["read 16M 8M"]))?;
        for n in 0..farm.count() {
            let words = ["version", "promote", "debian", "2", "--to", "production"];
            let said = farm.refused(n, &words)?;
            let clear = said.contains("database") && said.contains("hint:");
            ensure!(clear, "{} does not say why it refuses: {said}", farm.name(n));
        }
        if figure::is_shown() && reads == farm.count() {
            let mut machine = farm.machine(&hardware, 1)?;
            farm.explained(machine.wait_for_marker(BOOT))?;
        }
        if began.elapsed() > away {
            break;
        }
        std::thread::sleep(Duration::from_secs(5).min(away.saturating_sub(began.elapsed())));
    }
    let away = began.elapsed();

    farm.etcd.start_again()?;
    let back = Instant::now();
    farm.wait_for("the promotion", ARRIVAL, || {
        let words = ["version", "promote", "debian", "2", "--to", "production"];
        Ok(farm.try_cli(2, &words)?.status.success())
    })?;
    farm.wait_until_connected()?;
    for n in 0..farm.count() {
        let promoted = || Ok(farm.cli(n, &["version", "show", "debian", "2"])?.contains("<- boots"));
        farm.wait_for("the promotion everywhere", ARRIVAL, promoted)?;
    }
    farm.cli(1, &["version", "create", "debian"])?;
    farm.cli(1, &["version", "seal", "debian", "3"])?;
    farm.wait_until_complete("debian", 3, ARRIVAL)?;
    figure::print(&format!(
        "etcd-away: away for {:.0} s, {reads} boots to the disk on {} servers meanwhile, every promotion refused; \
         healed {:.1} s after it was back",
        away.as_secs_f64(),
        farm.count(),
        back.elapsed().as_secs_f64()
    ));
    Ok(())
}
