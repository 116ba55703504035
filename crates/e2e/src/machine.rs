//! A diskless QEMU machine on a segment: emulated (no KVM), BIOS, two serial ports.

use crate::child::Guarded;
use crate::console::{Console, Port};
use crate::network::Segment;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How the machine finds its first code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// The network card's iPXE option ROM: tells the DHCP server that it is iPXE.
    IpxeRom,
    /// Behaves as a PXE ROM that is not iPXE: no iPXE user class, and it loads by TFTP whatever
    /// file the DHCP server names. No free ROM of that kind exists, so iPXE is told to act so.
    PlainPxe,
}

/// What is special about a machine.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// Its network card's address.
    pub mac: String,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// How it begins.
    pub firmware: Firmware,
}

impl Hardware {
    /// A usual machine; `last` is the last byte of its MAC address.
    pub fn new(last: u8) -> Self {
        let mac = format!("52:54:00:48:57:{last:02x}");
        Self { mac, memory_mib: 768, firmware: Firmware::IpxeRom }
    }
}

/// A running machine; switched off when dropped.
#[derive(Debug)]
pub struct Machine {
    emulator: Guarded,
    /// The first serial port: firmware, loader, kernel, login.
    pub console: Console,
    shell: Console,
    commands: u32,
    _folder: TempDir,
}

/// Runs in place of the card's ROM for [`Firmware::PlainPxe`].
const PLAIN_PXE: &str = "#!ipxe\nset user-class PXEClient\nautoboot net0\nreboot\n";
const IPXE_KERNEL: &str = "/usr/lib/ipxe/ipxe.lkrn";

impl Machine {
    /// Switches the machine on.
    pub fn start(segment: &Segment, hardware: &Hardware) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let console = Port::new(folder.path(), "console")?;
        let shell = Port::new(folder.path(), "shell")?;
        let tap = segment.tap()?;
        let mut command = segment.command("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-display", "none", "-monitor", "none", "-nodefaults"]);
        // Without graphics the firmware and the loader speak on the serial port.
        command.args(["-machine", "pc,graphics=off"]);
        command.args(["-m", &hardware.memory_mib.to_string(), "-boot", "n"]);
        command.args(["-netdev", &format!("tap,id=lan,ifname={tap},script=no,downscript=no")]);
        command.args(["-device", &format!("virtio-net-pci,netdev=lan,mac={}", hardware.mac)]);
        // A card for randomness: without it the guest's services wait for entropy.
        command.args(["-device", "virtio-rng-pci"]);
        for port in [&console, &shell] {
            let name = port.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            command.args(["-chardev", &format!("socket,id={name},path={}", port.path.display())]);
            command.args(["-serial", &format!("chardev:{name}")]);
        }
        if hardware.firmware == Firmware::PlainPxe {
            let script = folder.path().join("plain.ipxe");
            std::fs::write(&script, PLAIN_PXE)?;
            command.args(["-kernel", IPXE_KERNEL, "-initrd"]).arg(&script);
        }
        let log = std::fs::File::create(folder.path().join("qemu.log"))?;
        let mut emulator = Guarded::start(command.stdout(log.try_clone()?).stderr(log))?;
        let ports = console.connected().and_then(|console| Ok((console, shell.connected()?)));
        let (console, shell) = ports.with_context(|| said(&mut emulator, folder.path()))?;
        Ok(Self { emulator, console, shell, commands: 0, _folder: folder })
    }

    /// Waits until the booted root file system has said so, and gives back its line.
    pub fn wait_for_marker(&mut self, limit: Duration) -> Result<String> {
        self.console.wait_for("HEADWATER-MARKER", limit)
    }

    /// Waits until the second serial port takes commands; after each boot.
    pub fn wait_for_shell(&mut self, limit: Duration) -> Result<()> {
        self.shell.wait_for("HEADWATER-SHELL", limit).map(|_| ())
    }

    /// Runs a line of shell in the guest and gives back its exit status and what it printed last.
    pub fn run(&mut self, line: &str, limit: Duration) -> Result<u32> {
        self.commands += 1;
        let token = format!("ENDED-{}-", self.commands);
        self.shell.send(&format!("{line}; echo {token}$?"))?;
        let ended = self.shell.wait_for(&token, limit);
        let ended = ended.with_context(|| format!("the guest's console:\n{}", self.console.last_lines()))?;
        let status = ended.rsplit('-').next().unwrap_or_default().trim();
        status.parse().with_context(|| format!("not an exit status: {ended:?}"))
    }

    /// Sends a line of shell that does not come back (reboot, poweroff).
    pub fn send(&mut self, line: &str) -> Result<()> {
        self.shell.send(line)
    }

    /// What the commands printed, for failures.
    pub fn shell_lines(&self) -> String {
        self.shell.last_lines()
    }

    /// Waits until the guest has switched its machine off.
    pub fn wait_for_power_off(&mut self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if self.emulator.child().try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("still on after {limit:?}; last lines:\n{}", self.console.last_lines())
    }
}

fn said(emulator: &mut Guarded, folder: &Path) -> String {
    let state = emulator.child().try_wait();
    let log = std::fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
    format!("the emulator ({state:?}) said: {}", log.trim())
}
