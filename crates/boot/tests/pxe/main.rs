//! Machines that boot by PXE from our servers, in network namespaces with QEMU: up to the moment
//! at which they ask our HTTP port for their script with their own MAC address, or for a kernel.
//!
//! Needs root, and the packages iproute2, qemu-system-x86, ipxe, ovmf, dnsmasq-base, busybox.

mod network;

use headwater_boot::dhcp::{DhcpServer, DhcpSettings};
use headwater_boot::ipxe::{BootSource, DeviceScript, HttpUrl};
use headwater_boot::loaders::{DEFAULT_DIRECTORY, Loaders};
use headwater_boot::tftp::{TftpServer, TftpSettings};
use headwater_boot::{BootEvent, BootObserver, BootStep};
use image::RootSpec;
use model::VersionNumber;
use network::{BRIDGE, Network, SERVER, seconds, within};
use protocol::dhcp::{BootOffer, ClientKind, DhcpConfig, Loader, Mode, Pool};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const HTTP_PORT: u16 = 6900;
const MAC: &str = "52:54:00:77:00:01";
/// A BIOS machine is there after 6 s, a UEFI one after 20; ten times that is a hang.
const PATIENCE: Duration = Duration::from_secs(200);

/// Collects what the servers tell.
#[derive(Default)]
struct Seen(Mutex<Vec<BootEvent>>);

impl BootObserver for Seen {
    fn on_boot_event(&self, event: BootEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Seen {
    fn has(&self, wanted: impl Fn(&BootStep) -> bool) -> bool {
        let events = self.0.lock().unwrap();
        events.iter().any(|event| event.mac == MAC.parse().unwrap() && wanted(&event.step))
    }
}

fn pool() -> Pool {
    Pool {
        first: Ipv4Addr::new(10, 77, 0, 100),
        last: Ipv4Addr::new(10, 77, 0, 200),
        netmask: Ipv4Addr::new(255, 255, 255, 0),
        router: None,
        dns: Vec::new(),
        domain: None,
        lease_s: 600,
        reservations: BTreeMap::new(),
    }
}

fn config(mode: Mode, loaders: &Loaders) -> DhcpConfig {
    let server: Ipv4Addr = SERVER.parse().unwrap();
    let url = |file: &str| format!("http://{SERVER}:{HTTP_PORT}/boot/v1/loader/{file}");
    let loader = |file: &String| Loader { file: file.clone(), url: url(file) };
    let loaders = loaders.by_architecture.iter().map(|(kind, file)| (*kind, loader(file)));
    let script_url = format!("http://{SERVER}:{HTTP_PORT}/boot/v1/script");
    DhcpConfig { mode, server, boot: BootOffer { script_url, loaders: loaders.collect() } }
}

/// Answers requests for the script with `script`, those for loaders with their bytes, all others
/// with 404, until `is_last` says so of one; gives that request's first line.
async fn serve_http(script: &str, loaders: &Loaders, mut is_last: impl FnMut(&str) -> bool) -> String {
    let listener = TcpListener::bind((SERVER, HTTP_PORT)).await.unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let len = stream.read(&mut request).await.unwrap();
        let line = String::from_utf8_lossy(&request[..len]).lines().next().unwrap_or("").to_owned();
        let path = line.split(' ').nth(1).unwrap_or("");
        let loader = path.strip_prefix("/boot/v1/loader/").and_then(|file| loaders.files.get(file));
        let (status, body) = match loader {
            Some(loader) => ("200 OK", &loader[..]),
            None if path.starts_with("/boot/v1/script") => ("200 OK", script.as_bytes()),
            None => ("404 Not Found", &[][..]),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Firmware asks by HEAD how large the file is.
        if !line.starts_with("HEAD ") {
            stream.write_all(body).await.unwrap();
        }
        if is_last(&line) {
            return line;
        }
    }
}

/// Starts our servers, runs `machine`, and waits until `is_last` says so of a request's first
/// line; gives that line.
fn boot(
    mut network: Network,
    mode: Mode,
    machine: impl FnOnce(&mut Network) + Send,
    script: &str,
    is_last: impl FnMut(&str) -> bool + Send,
) -> (Arc<Seen>, String) {
    let seen = Arc::new(Seen::default());
    let leases = tempfile::tempdir().unwrap();
    let loaders = Loaders::read(Path::new(DEFAULT_DIRECTORY));
    assert!(loaders.problems.is_empty(), "{}", loaders.problems[0]);
    let start = Instant::now();
    let namespace = network.namespace.clone();
    let observer: Arc<dyn BootObserver> = Arc::clone(&seen) as _;
    let result = within(&namespace, async || {
        let settings = DhcpSettings {
            interface: BRIDGE.to_owned(),
            config: config(mode, &loaders),
            lease_file: leases.path().join("leases"),
        };
        let dhcp = DhcpServer::start(settings, Arc::clone(&observer)).unwrap();
        let files = TftpSettings::new(SERVER.parse().unwrap(), loaders.files.clone());
        let tftp = TftpServer::start(files, observer).await.unwrap();
        machine(&mut network);
        let line = tokio::time::timeout(PATIENCE, serve_http(script, &loaders, is_last)).await;
        dhcp.stop().await;
        tftp.stop().await;
        line
    });
    let Ok(line) = result else {
        panic!("the request never came; the machine printed:\n{}", network.last_output());
    };
    println!("{line} after {}", seconds(start));
    (seen, line)
}

const WAIT: &str = "#!ipxe\necho ok\nsleep 600\n";

/// The first request for a script, which must name the machine's MAC.
fn asks_for_script(line: &str) -> bool {
    // iPXE escapes the colons.
    line.replace("%3A", ":").contains(&format!("/boot/v1/script?mac={MAC}"))
}

fn bios(network: &mut Network) {
    network.spawn_machine("tap0", MAC, &[]);
}

#[test]
fn a_bios_machine_gets_address_and_script_from_the_full_server() {
    let (seen, _) = boot(Network::new(), Mode::Full(pool()), bios, WAIT, asks_for_script);
    assert!(seen.has(|step| matches!(step, BootStep::Dhcp { address: Some(_), .. })));
}

#[test]
fn a_bios_machine_gets_its_script_beside_dnsmasq() {
    let mut network = Network::new();
    let host = network.add_host("10.77.0.2");
    let range = "--dhcp-range=10.77.0.100,10.77.0.200,600";
    let arguments = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=eth0",
        "--bind-interfaces",
        "--no-ping",
        "--leasefile-ro",
        "--log-facility=-",
        range,
    ];
    network.spawn(&host, "dnsmasq", &arguments, "dnsmasq-base");
    let (seen, _) = boot(network, Mode::Proxy, bios, WAIT, asks_for_script);
    assert!(seen.has(|step| matches!(step, BootStep::Dhcp { address: None, .. })));
}

#[test]
fn the_bios_loader_comes_by_tftp_and_finds_its_script_again() {
    let chain = format!("#!ipxe\nchain tftp://{SERVER}/undionly.kpxe\n");
    let mut scripts = 0;
    let is_second = |line: &str| {
        scripts += usize::from(asks_for_script(line));
        scripts == 2
    };
    let (seen, _) = boot(Network::new(), Mode::Full(pool()), bios, &chain, is_second);
    let loader = |file: &str| file == "undionly.kpxe";
    assert!(seen.has(|step| matches!(step, BootStep::LoaderDone { file } if loader(file))));
}

/// Starts a machine with UEFI firmware and no option ROM; `firmware_option` turns one of the ways
/// to boot off. `variables` must outlive the machine.
fn uefi(network: &mut Network, variables: &Path, firmware_option: &str) {
    let firmware = Path::new("/usr/share/OVMF");
    std::fs::copy(firmware.join("OVMF_VARS_4M.fd"), variables)
        .unwrap_or_else(|error| panic!("OVMF: {error}; hint: apt-get install ovmf"));
    let firmware = firmware.display();
    let command = format!(
        "-accel tcg -machine q35 -m 512 -nodefaults -nographic -monitor none -serial stdio \
         -drive if=pflash,format=raw,unit=0,readonly=on,file={firmware}/OVMF_CODE_4M.fd \
         -drive if=pflash,format=raw,unit=1,file={variables} \
         -netdev tap,id=n0,ifname=tap0,script=no,downscript=no \
         -device virtio-net-pci,netdev=n0,mac={MAC},bootindex=1,romfile= \
         -fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=no -fw_cfg {firmware_option}",
        variables = variables.display(),
    );
    let arguments: Vec<&str> = command.split_whitespace().collect();
    network.add_tap("tap0");
    let namespace = network.namespace.clone();
    network.spawn(&namespace, "qemu-system-x86_64", &arguments, "qemu-system-x86");
}

/// The firmware's own PXE, without any iPXE before ours: DHCP, TFTP, then the script.
#[test]
fn a_uefi_machine_loads_ipxe_by_tftp_from_the_full_server() {
    let variables = tempfile::NamedTempFile::new().unwrap();
    let machine = |network: &mut Network| {
        uefi(network, variables.path(), "name=opt/org.tianocore/IPv6HTTPSupport,string=no");
    };
    let (seen, _) = boot(Network::new(), Mode::Full(pool()), machine, WAIT, asks_for_script);
    let loader = |file: &str| file == "snponly.efi";
    assert!(seen.has(|step| matches!(step, BootStep::LoaderDone { file } if loader(file))));
}

/// UEFI HTTP boot: the loader's URL comes by DHCP, no TFTP at all.
#[test]
fn a_uefi_machine_loads_ipxe_by_http() {
    let variables = tempfile::NamedTempFile::new().unwrap();
    let machine = |network: &mut Network| {
        uefi(network, variables.path(), "name=opt/org.tianocore/IPv4PXESupport,string=no");
    };
    let (seen, _) = boot(Network::new(), Mode::Full(pool()), machine, WAIT, asks_for_script);
    assert!(seen.has(|step| matches!(step, BootStep::Dhcp { client: ClientKind::UefiHttp(_), .. })));
    assert!(!seen.has(|step| matches!(step, BootStep::LoaderStarted { .. })));
}

/// The real script, on a real iPXE: the first server is dead, the second has no kernel.
#[test]
fn a_device_script_falls_through_to_the_next_server() {
    let url =
        |port: u16, path: &str| HttpUrl::new(SocketAddr::new(SERVER.parse().unwrap(), port), path).unwrap();
    let source = |port| BootSource {
        kernel: url(port, "/boot/v1/kernel/T"),
        initrd: url(port, "/boot/v1/initrd/T"),
        plan: url(port, "/boot/v1/plan/T"),
    };
    let script = DeviceScript {
        device: "pc-1".parse().unwrap(),
        vdisk: "debian".parse().unwrap(),
        version: VersionNumber::FIRST,
        root: RootSpec { uuid: None, part_uuid: None, partition: Some(1) },
        sources: vec![source(6901), source(HTTP_PORT)],
        args: Vec::new(),
    };
    let asks_for_kernel = |line: &str| line.starts_with("GET /boot/v1/kernel/T ");
    boot(Network::new(), Mode::Full(pool()), bios, &script.render(), asks_for_kernel);
}

/// Runs busybox's DHCP client with a MAC address; the address that it was given.
fn lease(host: &str, mac: &str) -> String {
    let commands = format!(
        "ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up; \
         busybox udhcpc -i eth0 -n -q -f -t 10 -T 1 -s /bin/true 2>&1"
    );
    let output = Command::new("ip")
        .args(["netns", "exec", host, "sh", "-c", &commands])
        .output()
        .expect("ip from iproute2");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = text.split("lease of ").nth(1);
    let address = after.and_then(|rest| rest.split([' ', ',']).next());
    address.unwrap_or_else(|| panic!("no lease; hint: apt-get install busybox:\n{text}")).to_owned()
}

#[test]
fn a_restarted_server_knows_who_has_which_address() {
    let mut network = Network::new();
    let host = network.add_host("10.77.0.2");
    let leases = tempfile::tempdir().unwrap();
    let settings = || DhcpSettings {
        interface: BRIDGE.to_owned(),
        config: config(Mode::Full(pool()), &Loaders::default()),
        lease_file: leases.path().join("leases"),
    };
    let ask = async |mac: &'static str| {
        let host = host.clone();
        tokio::task::spawn_blocking(move || lease(&host, mac)).await.unwrap()
    };
    within(&network.namespace, async || {
        let server = DhcpServer::start(settings(), Arc::new(())).unwrap();
        let first = ask("52:54:00:77:00:0a").await;
        let in_use = DhcpServer::start(settings(), Arc::new(())).unwrap_err().to_string();
        assert!(in_use.contains("UDP port 67") && in_use.contains("hint:"), "{in_use}");
        server.stop().await;
        let server = DhcpServer::start(settings(), Arc::new(())).unwrap();
        let second = ask("52:54:00:77:00:0b").await;
        assert_ne!(first, second);
        assert_eq!(ask("52:54:00:77:00:0a").await, first);
        assert_eq!(server.leases().iter().count(), 2);
        server.stop().await;
    });
}
