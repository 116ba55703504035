//! One diskless machine in QEMU: no disk, a network card, a serial console.
//!
//! It needs neither root nor KVM. QEMU's user network answers DHCP with the address of the boot
//! script as the file name; the card's iPXE ROM fetches it. The guest reaches this machine's
//! loopback at 10.0.2.2, HTTP and NBD alike. (QEMU docs, "Network emulation", user mode.)

use super::child::{self, Output, Program};
use super::qmp;
use super::trouble::Trouble;
use model::MacAddress;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, ChildStdout};

/// This machine's loopback as QEMU's guests see it.
const HOST: &str = "10.0.2.2";
/// The longest path of a unix socket (`sun_path` has 108 bytes with its final zero).
const MAX_SOCKET_PATH: usize = 107;
/// How long QEMU may take to end; nothing is lost where it takes longer.
const END_GRACE: Duration = Duration::from_secs(2);

/// What a machine is made of.
#[derive(Clone, Debug)]
pub(super) struct MachineSpec {
    /// Counts from 0.
    pub(super) index: usize,
    /// Its RAM in MiB.
    pub(super) memory_mib: u32,
    /// The server's HTTP port on this machine's loopback.
    pub(super) http_port: u16,
    /// Where sockets and logs go.
    pub(super) dir: PathBuf,
    /// The log of the server that it boots from.
    pub(super) server_log: PathBuf,
}

impl MachineSpec {
    /// Its address: QEMU's prefix, the letters `hw` and its number.
    pub(super) fn mac(&self) -> MacAddress {
        let number = u8::try_from(self.index + 1).expect("a lab has a handful of machines");
        MacAddress([0x52, 0x54, 0x00, b'h', b'w', number])
    }

    /// Where its console is logged.
    pub(super) fn serial_log(&self) -> PathBuf {
        self.dir.join(format!("machine-{}.serial.log", self.index + 1))
    }

    fn socket(&self) -> PathBuf {
        self.dir.join(format!("machine-{}.qmp", self.index + 1))
    }

    fn error_log(&self) -> PathBuf {
        self.dir.join(format!("machine-{}.qemu.log", self.index + 1))
    }
}

/// A machine that was switched on.
pub(super) struct Machine {
    child: Child,
    /// To reset it.
    pub(super) commands: qmp::Commands,
}

/// What a machine says.
pub(super) struct Voices {
    /// Its serial console.
    pub(super) serial: ChildStdout,
    /// QEMU's notices.
    pub(super) notices: qmp::Notices,
}

impl Machine {
    /// Switches a machine on.
    pub(super) async fn start(spec: &MachineSpec, qemu: &Path) -> Result<(Self, Voices), Trouble> {
        let socket = spec.socket();
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            let what = format!("{} is too long a path for QEMU's control socket", socket.display());
            return Err(Trouble::new(what, "give --keep a shorter path, or set TMPDIR to one"));
        }
        let args = qemu_args(spec);
        let failed = |error: std::io::Error| qemu_trouble(spec, &error.to_string());
        let log = std::fs::File::create(spec.error_log()).map_err(failed)?;
        let output = Output { out: Stdio::piped(), err: Stdio::from(log) };
        let mut child =
            child::start(Program { path: qemu, args: &args, env: &[] }, output).map_err(failed)?;
        let serial = child.stdout.take().expect("its output is piped");
        let connected = tokio::select! {
            connected = qmp::connect(&socket) => connected.map_err(failed),
            ended = child.wait() => Err(qemu_trouble(spec, &ended.map_or_else(|e| e.to_string(), |s| s.to_string()))),
        };
        let (commands, notices) = connected?;
        Ok((Self { child, commands }, Voices { serial, notices }))
    }

    /// Switches the machine off.
    pub(super) async fn end(mut self) {
        child::end(&mut self.child, END_GRACE).await;
    }
}

fn qemu_trouble(spec: &MachineSpec, what: &str) -> Trouble {
    let said = std::fs::read_to_string(spec.error_log()).unwrap_or_default();
    let said = said.trim();
    if said.contains("romfile") {
        return Trouble::new(
            format!("QEMU lacks the iPXE ROM of its network card: {said}"),
            "apt-get install ipxe-qemu (Debian, Ubuntu); dnf install ipxe-roms-qemu (Fedora)",
        );
    }
    let colon = if said.is_empty() { "" } else { ": " };
    Trouble::new(
        format!("QEMU does not run machine {}: {what}{colon}{said}", spec.index + 1),
        "QEMU 5.2 or newer with its user network (slirp) is needed; less --memory or --machines may help",
    )
}

/// QEMU's arguments: nothing but what is named here, so that every QEMU builds the same machine.
fn qemu_args(spec: &MachineSpec) -> Vec<OsString> {
    let mac = spec.mac();
    let script = format!("http://{HOST}:{}/boot/v1/script?mac={mac}", spec.http_port);
    let mut args: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: String| args.extend([option.into(), value.into()]);
    add("-name", format!("headwater-lab-{}", spec.index + 1));
    // `graphics=off` makes the firmware and iPXE speak on the serial console.
    add("-machine", "pc,graphics=off".to_owned());
    add("-accel", "tcg".to_owned());
    add("-m", spec.memory_mib.to_string());
    add("-display", "none".to_owned());
    add("-vga", "none".to_owned());
    add("-netdev", format!("user,id=n0,bootfile={script}"));
    // No `romfile`: QEMU fits only its default ROM to the card that it emulates.
    add("-device", format!("virtio-net-pci,netdev=n0,mac={mac},bootindex=0"));
    add("-chardev", "stdio,id=console,signal=off".to_owned());
    add("-serial", "chardev:console".to_owned());
    add("-qmp", format!("unix:{},server=on,wait=off", escape(&spec.socket().to_string_lossy())));
    args.extend(["-nodefaults".into(), "-no-user-config".into()]);
    args
}

/// A comma ends a value in QEMU's option syntax unless it is doubled.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dir: &str) -> MachineSpec {
        MachineSpec {
            index: 1,
            memory_mib: 640,
            http_port: 6900,
            dir: dir.into(),
            server_log: PathBuf::new(),
        }
    }

    fn line(spec: &MachineSpec) -> String {
        let args = qemu_args(spec);
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_machine_has_no_disk_and_boots_from_the_script_by_its_address() {
        let line = line(&spec("/d"));
        assert!(
            line.contains("bootfile=http://10.0.2.2:6900/boot/v1/script?mac=52:54:00:68:77:02"),
            "{line}"
        );
        assert!(line.contains("virtio-net-pci,netdev=n0,mac=52:54:00:68:77:02,bootindex=0"));
        assert!(line.contains("-accel tcg") && line.contains("-nodefaults"));
        assert!(!line.contains("-drive") && !line.contains("kvm"));
    }

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        assert!(line(&spec("/a,b")).contains("unix:/a,,b/machine-2.qmp,server=on"));
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_is_said() {
        let error = Machine::start(&spec(&"/x".repeat(60)), Path::new("/no/such")).await.err().unwrap();
        assert!(error.to_string().contains("TMPDIR"), "{error}");
    }

    async fn refusal(says: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let qemu = dir.path().join("qemu");
        std::fs::write(&qemu, format!("#!/bin/sh\necho '{says}' >&2; exit 1\n")).unwrap();
        std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).unwrap();
        let started = Machine::start(&spec(dir.path().to_str().unwrap()), &qemu).await;
        started.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn a_qemu_that_refuses_is_quoted() {
        let refusal = refusal("no such option").await;
        assert!(refusal.contains("no such option") && refusal.contains("hint:"), "{refusal}");
    }

    #[tokio::test]
    async fn a_missing_rom_names_its_package() {
        let refusal = refusal(r#"failed to find romfile "efi-virtio.rom""#).await;
        assert!(refusal.contains("ipxe-qemu"), "{refusal}");
    }
}
