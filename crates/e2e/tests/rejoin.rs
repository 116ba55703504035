//! A server that has lost its disk serves a boot at once, while it gets everything back from its
//! peers. The show's form boots a machine, too.

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
/// From the server's start until a device has read what a boot reads.
const BAR: Duration = Duration::from_secs(10);
/// What the servers may send each other, so that the image is not there before the device.
const LINK_MBIT: f64 = 400.0;

#[test]
fn a_server_that_lost_everything_serves_a_boot_while_it_gets_it_back() -> Result<()> {
    let image = needs::image("debian-initramfs")?;
    let mut farm = Farm::new(Layout::default())?;
    farm.cli(0, &["vdisk", "import", "debian", &image.display().to_string()])?;
    farm.wait_until_complete("debian", 1, ARRIVAL)?;
    let set = ["collection", "set", "default", "--vdisk", "debian", "--cache", "256MiB"];
    farm.cli(0, &[&set[..], &["--boot-args", "console=ttyS0"]].concat())?;
    let (known, hardware) = (Hardware::new(40), Hardware::new(41));
    farm.cli(0, &["device", "add", &known.mac, "--name", "pc-40"])?;
    farm.cli(0, &["device", "add", &hardware.mac, "--name", "pc-41"])?;
    for n in 0..farm.count() {
        farm.limit(n, LINK_MBIT)?;
    }

    farm.kill(2)?;
    farm.empty_store(2)?;
    let emptied = serves_a_boot(&mut farm, &known)?;
    farm.wait_until_complete("debian", 1, ARRIVAL)?;
    ensure!(farm.content(2, "debian", 1)? == farm.content(0, "debian", 1)?, "other bytes came back");

    farm.kill(2)?;
    farm.rejoin(2, 0)?;
    let rejoined = serves_a_boot(&mut farm, &known)?;
    let mut machine_text = String::new();
    if figure::is_shown() {
        let began = Instant::now();
        let mut machine = farm.machine(&hardware, 2)?;
        farm.explained(machine.wait_for_marker(BOOT))?;
        machine_text = format!("; a machine booted from it in {:.0} s", began.elapsed().as_secs_f64());
    }
    farm.wait_until_complete("debian", 1, ARRIVAL)?;
    figure::print(&format!(
        "rejoin: from the server's start to 72 MiB and a kernel read by a device: store lost {:.1} s, \
         everything lost {:.1} s{machine_text}",
        emptied.as_secs_f64(),
        rejoined.as_secs_f64()
    ));
    if figure::is_shown() {
        ensure!(emptied.max(rejoined) <= BAR, "more than {BAR:?}");
    }
    Ok(())
}

/// Starts server 2 and boots from it up to the blocks that a boot reads; how long that took.
fn serves_a_boot(farm: &mut Farm, device: &Hardware) -> Result<Duration> {
    let began = Instant::now();
    farm.start(2)?;
    farm.wait_for("a boot", ARRIVAL, || {
        let booted = boot(farm.host(2), &farm.host(2).address, &device.mac)?;
        qemu_io(farm.host(2), &booted.uri, &["read 0 64M", "read 512M 8M"])?;
        Ok(true)
    })?;
    let took = began.elapsed();
    let partly = !farm.is_complete(2, "debian", 1)?;
    eprintln!("a boot after {took:?}; the version was here in part only: {partly}");
    Ok(took)
}
