//! Machines that boot by PXE from our servers, in network namespaces with QEMU: up to the moment
//! at which they ask our HTTP port for their script with their own MAC address.
//!
//! Needs root, and the packages iproute2, qemu-system-x86, ipxe, ovmf, dnsmasq-base.

mod network;

use headwater_boot::dhcp::{DhcpServer, DhcpSettings};
use headwater_boot::loaders::{DEFAULT_DIRECTORY, Loaders};
use headwater_boot::tftp::{TftpServer, TftpSettings};
use headwater_boot::{BootEvent, BootObserver, BootStep};
use network::{BRIDGE, Network, SERVER, seconds, within};
use protocol::dhcp::{BootOffer, DhcpConfig, Loader, Mode, Pool};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
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

/// Answers every request for a script with `script(how many before)`, until one for the MAC came
/// `wanted` times; gives the last request's first line.
async fn serve_scripts(wanted: usize, script: impl Fn(usize) -> String) -> String {
    let listener = TcpListener::bind((SERVER, HTTP_PORT)).await.unwrap();
    let mut count = 0;
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let len = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..len]).into_owned();
        let line = request.lines().next().unwrap_or_default().to_owned();
        if !line.contains("/boot/v1/script") {
            continue;
        }
        let body = script(count);
        count += 1;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        if count == wanted {
            return line;
        }
    }
}

/// Starts our servers, runs `machine`, and waits until it asks for its script.
fn boot(
    mut network: Network,
    mode: Mode,
    machine: impl FnOnce(&mut Network) + Send,
    scripts: (usize, &str),
) -> Arc<Seen> {
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
        let asked = serve_scripts(scripts.0, |_| format!("#!ipxe\n{}\nsleep 600\n", scripts.1));
        let line = tokio::time::timeout(PATIENCE, asked).await;
        // The last block's acknowledgement may come after the loader's first request.
        dhcp.stop().await;
        tftp.stop().await;
        line
    });
    let Ok(line) = result else {
        panic!("no script was asked for; the machine printed:\n{}", network.last_output());
    };
    println!("{line} after {}", seconds(start));
    // iPXE escapes the colons.
    assert!(line.replace("%3A", ":").contains(&format!("?mac={MAC}")), "{line}");
    seen
}

fn bios(network: &mut Network) {
    network.spawn_machine("tap0", MAC, &[]);
}

#[test]
fn a_bios_machine_gets_address_and_script_from_the_full_server() {
    let seen = boot(Network::new(), Mode::Full(pool()), bios, (1, "echo ok"));
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
    let seen = boot(network, Mode::Proxy, bios, (1, "echo ok"));
    assert!(seen.has(|step| matches!(step, BootStep::Dhcp { address: None, .. })));
}

#[test]
fn the_bios_loader_comes_by_tftp_and_finds_its_script_again() {
    let chain = format!("chain tftp://{SERVER}/undionly.kpxe");
    let seen = boot(Network::new(), Mode::Full(pool()), bios, (2, &chain));
    let loader = |file: &str| file == "undionly.kpxe";
    assert!(seen.has(|step| matches!(step, BootStep::LoaderDone { file } if loader(file))));
}

/// The firmware's own PXE, without any iPXE before ours: DHCP, TFTP, then the script.
#[test]
fn a_uefi_machine_loads_ipxe_by_tftp_from_the_full_server() {
    let variables = tempfile::NamedTempFile::new().unwrap();
    let firmware = Path::new("/usr/share/OVMF");
    std::fs::copy(firmware.join("OVMF_VARS_4M.fd"), variables.path())
        .unwrap_or_else(|error| panic!("OVMF: {error}; hint: apt-get install ovmf"));
    let code = format!("if=pflash,format=raw,unit=0,readonly=on,file={}/OVMF_CODE_4M.fd", firmware.display());
    let store = format!("if=pflash,format=raw,unit=1,file={}", variables.path().display());
    let uefi = |network: &mut Network| {
        network.add_tap("tap0");
        let namespace = network.namespace.clone();
        let device = format!("virtio-net-pci,netdev=n0,mac={MAC},bootindex=1,romfile=");
        let arguments = [
            "-accel",
            "tcg",
            "-machine",
            "q35",
            "-m",
            "512",
            "-nodefaults",
            "-nographic",
            "-monitor",
            "none",
            "-serial",
            "stdio",
            "-drive",
            &code,
            "-drive",
            &store,
            "-netdev",
            "tap,id=n0,ifname=tap0,script=no,downscript=no",
            "-device",
            &device,
            "-fw_cfg",
            "name=opt/org.tianocore/IPv6PXESupport,string=no",
        ];
        network.spawn(&namespace, "qemu-system-x86_64", &arguments, "qemu-system-x86");
    };
    let seen = boot(Network::new(), Mode::Full(pool()), uefi, (1, "echo ok"));
    let loader = |file: &str| file == "snponly.efi";
    assert!(seen.has(|step| matches!(step, BootStep::LoaderDone { file } if loader(file))));
}
