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
    /// The distribution's iPXE for BIOS, fetched by TFTP from the segment's 10.77.0.1. (No free
    /// BIOS ROM that is not iPXE exists; this is what such a ROM does after its DHCP.)
    LoaderByTftp,
    /// UEFI with the firmware's own PXE, which is not iPXE: it loads whatever the DHCP server names.
    UefiPxe,
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

/// Runs in place of the card's ROM for [`Firmware::LoaderByTftp`].
const FETCH_LOADER: &str = "#!ipxe\nifconf -c dhcp net0\nchain tftp://10.77.0.1/undionly.kpxe\n";
const IPXE_KERNEL: &str = "/usr/lib/ipxe/ipxe.lkrn";
const OVMF: &str = "/usr/share/OVMF";

impl Machine {
    /// Switches the machine on.
    pub fn start(segment: &Segment, hardware: &Hardware) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let console = Port::new(folder.path(), "console")?;
        let shell = Port::new(folder.path(), "shell")?;
        let tap = segment.tap()?;
        let mut command = segment.command("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-display", "none", "-monitor", "none", "-nodefaults"]);
        command.args(["-m", &hardware.memory_mib.to_string()]);
        command.args(["-netdev", &format!("tap,id=lan,ifname={tap},script=no,downscript=no")]);
        command.args(firmware_arguments(hardware.firmware, folder.path())?);
        command.args(["-device", &card(hardware)]);
        // A card for randomness: without it the guest's services wait for entropy.
        command.args(["-device", "virtio-rng-pci"]);
        for port in [&console, &shell] {
            let name = port.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            command.args(["-chardev", &format!("socket,id={name},path={}", port.path.display())]);
            command.args(["-serial", &format!("chardev:{name}")]);
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

    /// Runs a line of shell in the guest and gives back its output, without line ends.
    pub fn read(&mut self, line: &str, limit: Duration) -> Result<String> {
        self.commands += 1;
        let token = format!("VALUE-{}-", self.commands);
        self.shell.send(&format!("echo {token}$({line})"))?;
        let said = self.shell.wait_for(&token, limit)?;
        Ok(said.split_once(&token).map(|(_, value)| value.trim().to_owned()).unwrap_or_default())
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

fn card(hardware: &Hardware) -> String {
    // Without its ROM the card is left to the firmware's own drivers.
    let rom = if hardware.firmware == Firmware::UefiPxe { ",romfile=" } else { "" };
    format!("virtio-net-pci,netdev=lan,bootindex=1,mac={}{rom}", hardware.mac)
}

fn firmware_arguments(firmware: Firmware, folder: &Path) -> Result<Vec<String>> {
    // Without graphics the firmware and the loader speak on the serial port.
    let mut arguments = match firmware {
        Firmware::IpxeRom => vec!["-machine".to_owned(), "pc,graphics=off".to_owned()],
        Firmware::LoaderByTftp => {
            let script = folder.join("loader.ipxe");
            std::fs::write(&script, FETCH_LOADER)?;
            let script = script.display().to_string();
            let words = ["-machine", "pc,graphics=off", "-kernel", IPXE_KERNEL, "-initrd", &script];
            words.map(str::to_owned).to_vec()
        }
        Firmware::UefiPxe => {
            let variables = folder.join("variables.fd");
            let from = format!("{OVMF}/OVMF_VARS_4M.fd");
            std::fs::copy(&from, &variables)
                .with_context(|| format!("{from}\nhint: apt-get install ovmf"))?;
            let code = format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF}/OVMF_CODE_4M.fd");
            let variables = format!("if=pflash,format=raw,unit=1,file={}", variables.display());
            ["-machine", "q35", "-drive", &code, "-drive", &variables].map(str::to_owned).to_vec()
        }
    };
    // The firmware tries IPv6 for a minute first.
    arguments.extend(["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no"].map(str::to_owned));
    Ok(arguments)
}

fn said(emulator: &mut Guarded, folder: &Path) -> String {
    let state = emulator.child().try_wait();
    let log = std::fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
    format!("the emulator ({state:?}) said: {}", log.trim())
}
