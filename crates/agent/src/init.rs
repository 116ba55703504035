//! The first process of the device: from the kernel's start to the image's own init.
//!
//! Runs as PID 1 (`rdinit=/headwater/init`) in the image's unmodified initrd, before anything of
//! it has run, so that it does not matter whether initramfs-tools, dracut or something else made
//! it. It leaves the initrd as it found it but for `/dev/nbd0`, a configured network card and the
//! hook of [`identity`].

use crate::console;
use crate::daemon::{Handover, READY};
use crate::kernel_parameters::{KernelParameters, LoaderAddress};
use crate::modules::{self, Modules};
use crate::netlink::Socket;
use crate::network::{self, Link, naming};
use crate::{fetch, identity};
use anyhow::{Context as _, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use protocol::plan::{DiskPlan, Identity};
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The image's own init.
const STOCK_INIT: &str = "/init";
/// The resident process's name: the `@` keeps systemd from killing it.
const DAEMON_NAME: &str = "@headwater-agent";
/// After a problem that may pass (a card that is not there yet), before the next attempt.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// USB cards take some seconds to appear; after this the console hears about it.
const CARD_WITHIN: Duration = Duration::from_secs(10);
/// Switches with spanning tree keep a port closed for 30 s after it comes up.
const CARRIER_WITHIN: Duration = Duration::from_secs(45);

/// Attaches the disk and becomes the image's init; on a problem says so and tries again for ever,
/// because there is nothing else that a diskless machine could do.
pub(crate) fn run() -> ! {
    let mounted = mount_kernel_file_systems();
    console::use_kernel_log();
    console::info(format!("agent {} starts", env!("CARGO_PKG_VERSION")));
    let identity = loop {
        match attach() {
            Ok(identity) => break identity,
            Err(error) => console::problem(format!("{error:#}")),
        }
        std::thread::sleep(TRY_AGAIN);
    };
    let prepared = identity.as_ref().map_or(Ok(()), identity::prepare);
    for problem in [find_partitions(), prepared].into_iter().filter_map(Result::err) {
        console::problem(format!("{problem:#}"));
    }
    for point in mounted.iter().rev() {
        // Detached, because the kernel's log stays open below /dev.
        if let Err(error) = umount2(*point, MntFlags::MNT_DETACH) {
            console::problem(format!("{point} stays mounted: {error}"));
        }
    }
    let Err(error) = exec_stock_init();
    console::problem(format!("cannot run the image's {STOCK_INIT}: {error}"));
    loop {
        std::thread::sleep(TRY_AGAIN);
    }
}

/// Mounts what is not mounted yet; answers what it has mounted.
fn mount_kernel_file_systems() -> Vec<&'static str> {
    let wanted = [("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "devtmpfs")];
    let mut mounted = Vec::new();
    for (point, kind) in wanted.into_iter().filter(|(point, _)| !is_mount_point(point)) {
        let _ = std::fs::create_dir(point);
        match mount(Some(kind), point, Some(kind), MsFlags::empty(), None::<&str>) {
            Ok(()) => mounted.push(point),
            Err(error) => console::problem(format!("cannot mount {point}: {error}")),
        }
    }
    mounted
}

/// Whether another file system is there than the initrd's own; dracut's has a few nodes in /dev.
fn is_mount_point(path: &str) -> bool {
    let device = |path| std::fs::metadata(path).map(|found| found.dev());
    matches!((device(path), device("/")), (Ok(here), Ok(root)) if here != root)
}

/// Attaches the disk; answers who the device is to be, where that may be written to its disk.
fn attach() -> anyhow::Result<Option<Identity>> {
    let cmdline = std::fs::read_to_string("/proc/cmdline").context("the kernel command line")?;
    let parameters = KernelParameters::parse(&cmdline)?;
    let mut modules = Modules::read(Path::new("/headwater/modules"));
    modules.load("nbd");
    let mut socket = Socket::route().context("a netlink socket")?;
    let link = find_card(&mut socket, &mut modules, &parameters.address)?;
    open_network(&mut socket, &link, &parameters.address)?;
    let mut plan = fetch::plan(&parameters.plan_urls);
    let manner = if plan.disk == DiskPlan::Draft { ", to write to it" } else { "" };
    console::info(format!("this is {}: {} version {}{manner}", plan.device, plan.vdisk, plan.version));
    let identity = plan.identity.take().filter(|_| plan.disk != DiskPlan::Draft);
    start_daemon(&Handover { plan, address: parameters.address })?;
    Ok(identity)
}

/// Loads drivers until the loader's card is there.
fn find_card(socket: &mut Socket, modules: &mut Modules, address: &LoaderAddress) -> anyhow::Result<Link> {
    let deadline = Instant::now() + CARD_WITHIN;
    loop {
        let aliases = modules::device_modaliases();
        modules.load_for_devices(&aliases);
        if let Some(link) = network::find_link(socket, address.mac)? {
            return Ok(link);
        }
        modules::modprobe_devices(&aliases);
        if let Some(link) = network::find_link(socket, address.mac)? {
            return Ok(link);
        }
        if Instant::now() > deadline {
            bail!(
                "no network card with the address {}\nhint: the image's kernel needs a driver for it; devices: {}",
                address.mac,
                shown(&aliases)
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn shown(aliases: &[String]) -> String {
    let cards =
        aliases.iter().filter(|alias| alias.contains("bc02") || alias.starts_with("virtio:d00000001"));
    cards.take(4).cloned().collect::<Vec<_>>().join(" ")
}

fn open_network(socket: &mut Socket, link: &Link, address: &LoaderAddress) -> anyhow::Result<()> {
    let link = if link.is_up { link.clone() } else { naming::apply(socket, link.clone(), address.mac) };
    network::bring_up(socket, &link).with_context(|| format!("cannot switch {} on", link.name))?;
    network::configure(socket, &link, address)
        .with_context(|| format!("{} refuses the address {}", link.name, address.address))?;
    wait_carrier(socket, &link, address)?;
    console::info(format!("{} ({}) has {}/{}", link.name, address.mac, address.address, address.prefix_len));
    Ok(())
}

fn wait_carrier(socket: &mut Socket, link: &Link, address: &LoaderAddress) -> anyhow::Result<()> {
    let deadline = Instant::now() + CARRIER_WITHIN;
    while Instant::now() < deadline {
        if network::find_link(socket, address.mac)?.is_some_and(|link| link.has_carrier) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    console::problem(format!("{} has no carrier\nhint: is the cable in?", link.name));
    Ok(())
}

/// Starts the resident process and waits until the kernel has its disk.
fn start_daemon(handover: &Handover) -> anyhow::Result<()> {
    let mut child = Command::new("/proc/self/exe")
        .arg0(DAEMON_NAME)
        .arg("daemon")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::options().write(true).open("/dev/kmsg").map_or(Stdio::inherit(), Stdio::from))
        .spawn()
        .context("the resident process")?;
    let mut to_child = child.stdin.take().expect("it was asked for");
    to_child.write_all(&serde_json::to_vec(handover)?)?;
    drop(to_child);
    let mut answer = [0; READY.len()];
    let mut from_child = child.stdout.take().expect("it was asked for");
    if from_child.read_exact(&mut answer).is_err() || answer != READY {
        bail!("the resident process ended: {}", child.wait()?);
    }
    Ok(())
}

/// Makes the kernel read the partition table: the driver does so when the disk is next opened.
fn find_partitions() -> anyhow::Result<()> {
    let mut first = [0; 4096];
    let mut disk = File::open("/dev/nbd0").context("/dev/nbd0")?;
    disk.read_exact(&mut first).context("the first block of /dev/nbd0")?;
    let names = std::fs::read_dir("/dev")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let count = names.filter(|name| name.starts_with("nbd0p")).count();
    console::info(format!("/dev/nbd0 is attached, with {count} partitions"));
    Ok(())
}

fn exec_stock_init() -> Result<Infallible, std::io::Error> {
    console::info(format!("handing over to the image's {STOCK_INIT}"));
    Err(Command::new(STOCK_INIT).args(std::env::args_os().skip(1)).exec())
}
