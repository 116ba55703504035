//! Every way to boot, on emulated machines without a disk.
//!
//! Success is a line on the serial console that only the booted root file system prints
//! (`xtask/guest/probe.sh`). Each test has an Ethernet segment, a server and a store of its own.

use anyhow::{Result, ensure};
use headwater_e2e::Machine;
use headwater_e2e::machine::{Firmware, Hardware};
use headwater_e2e::scene::{Dhcp, Scene, Unknown, Wishes};
use std::time::Duration;

/// From power-on to the root file system: 30 to 60 s on two idle cores, by TFTP twice that; the
/// rest is for loaded ones.
const BOOT: Duration = Duration::from_secs(300);
/// For a command in the guest.
const COMMAND: Duration = Duration::from_secs(90);
/// systemd waits 90 s for a unit that does not stop; a shutdown in less has waited for none.
const SHUTDOWN: Duration = Duration::from_secs(80);

#[test]
fn a_bios_machine_boots_by_our_dhcp_and_the_loader_from_our_tftp() -> Result<()> {
    let scene = Scene::new(Wishes::default())?;
    let mut machine = scene.machine(&Hardware { firmware: Firmware::LoaderByTftp, ..Hardware::new(1) })?;
    scene.explained(machine.console.wait_for("tftp://10.77.0.1/undionly.kpxe... ok", BOOT))?;
    is_clean_boot(&scene.explained(machine.wait_for_marker(BOOT))?)
}

#[test]
fn a_uefi_firmware_that_is_not_ipxe_boots_by_our_dhcp_and_tftp() -> Result<()> {
    let scene = Scene::new(Wishes::default())?;
    let mut machine = scene.machine(&Hardware { firmware: Firmware::UefiPxe, ..Hardware::new(8) })?;
    is_clean_boot(&scene.explained(machine.wait_for_marker(BOOT))?)
}

#[test]
fn our_proxy_dhcp_beside_dnsmasq_boots_a_dracut_image() -> Result<()> {
    let wishes = Wishes { image: "debian-dracut", dhcp: Dhcp::ProxyBesideDnsmasq, ..Wishes::default() };
    let scene = Scene::new(wishes)?;
    let mut machine = scene.machine(&Hardware::new(2))?;
    let marker = scene.explained(machine.wait_for_marker(BOOT))?;
    is_clean_boot(&marker)
}

#[test]
fn an_initramfs_tools_image_reboots_clean_and_shuts_down() -> Result<()> {
    reboots_clean_and_shuts_down("debian-initramfs")
}

#[test]
fn a_dracut_image_reboots_clean_and_shuts_down() -> Result<()> {
    reboots_clean_and_shuts_down("debian-dracut")
}

#[test]
fn an_unknown_machine_is_added_by_itself_where_the_collection_says_so() -> Result<()> {
    let scene = Scene::new(Wishes { unknown: Unknown::AutoAdd, ..Wishes::default() })?;
    let hardware = Hardware::new(5);
    let mut machine = scene.machine(&hardware)?;
    scene.explained(machine.wait_for_marker(BOOT))?;
    scene.wait_for_cli(&["device", "list"], &hardware.mac, COMMAND)
}

#[test]
fn an_unknown_machine_waits_until_it_is_accepted_and_then_boots() -> Result<()> {
    let scene = Scene::new(Wishes { unknown: Unknown::Wait, ..Wishes::default() })?;
    let hardware = Hardware::new(6);
    let mut machine = scene.machine(&hardware)?;
    scene.explained(scene.wait_for_cli(&["pending", "list"], &hardware.mac, BOOT))?;
    scene.explained(machine.console.wait_for("is not known yet", BOOT))?;
    ensure!(!scene.cli(&["device", "list"])?.contains(&hardware.mac), "it was added by itself");
    scene.cli(&["pending", "accept", &hardware.mac, "--name", "accepted"])?;
    let marker = scene.explained(machine.wait_for_marker(BOOT))?;
    is_clean_boot(&marker)?;
    ensure!(scene.cli(&["device", "list"])?.contains("accepted"), "the accepted device is not listed");
    Ok(())
}

#[test]
fn a_full_write_cache_refuses_writes_and_the_machine_still_answers() -> Result<()> {
    let scene = Scene::new(Wishes { cache: "64MiB", ..Wishes::default() })?;
    let mut machine = scene.machine(&Hardware::new(7))?;
    scene.explained(machine.wait_for_marker(BOOT))?;
    machine.wait_for_shell(COMMAND)?;
    // Without the limit of time dd would wait for ever to get rid of dirty pages that ext4, its
    // journal aborted, cannot write any more: the file system's way, not the disk's.
    let fill = "timeout -s KILL 60 dd if=/dev/urandom of=/var/tmp/filler bs=1M count=256 conv=fsync";
    let filled = machine.run(fill, BOOT);
    ensure!(scene.explained(filled)? != 0, "256 MiB went into a write cache of 64 MiB");
    // Reads of blocks that were never read before come from the server as ever.
    let reads = machine.run("cat /boot/vmlinuz-* >/dev/null && test $(ls /usr/bin | wc -l) -gt 100", COMMAND);
    ensure!(scene.explained(reads)? == 0, "reads fail after the cache is full:\n{}", machine.shell_lines());
    scene.wait_for_cli(&["events"], "write-cache-full", COMMAND)?;
    let events = scene.cli(&["events"])?;
    ensure!(!events.contains("shuts down"), "a running machine was said to shut down:\n{events}");
    Ok(())
}

fn reboots_clean_and_shuts_down(image: &'static str) -> Result<()> {
    let scene = Scene::new(Wishes { image, ..Wishes::default() })?;
    let mut machine = scene.machine(&Hardware::new(3))?;
    is_clean_boot(&scene.explained(machine.wait_for_marker(BOOT))?)?;
    scene.explained(machine.console.wait_for("HEADWATER-WROTE", COMMAND))?;
    // The probe can tell: asked again in the same boot it finds what it wrote.
    let again = probe_again(&mut machine)?;
    ensure!(again.contains("boot=dirty"), "the write did not reach the disk: {again}");

    machine.send("systemctl reboot")?;
    is_clean_boot(&scene.explained(machine.wait_for_marker(BOOT + SHUTDOWN))?)?;
    scene.explained(machine.wait_for_shell(COMMAND))?;

    machine.send("systemctl poweroff")?;
    scene.explained(machine.wait_for_power_off(SHUTDOWN))
}

fn probe_again(machine: &mut Machine) -> Result<String> {
    machine.wait_for_shell(COMMAND)?;
    machine.run("systemctl restart headwater-lab-probe", COMMAND)?;
    machine.wait_for_marker(COMMAND)
}

fn is_clean_boot(marker: &str) -> Result<()> {
    ensure!(marker.contains("boot=clean"), "not a clean boot: {marker}");
    ensure!(marker.contains("root=/dev/nbd0"), "not from the streamed disk: {marker}");
    Ok(())
}
