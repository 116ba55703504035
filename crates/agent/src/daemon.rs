//! The resident process: it holds the write cache and serves the kernel until the machine stops.
//!
//! Started by [`crate::init`] under a name that begins with `@`, which tells systemd to leave it
//! alone when it kills everything else at switch-root and at shutdown (systemd.io, "Storage
//! Daemons for the Root File System"). After the image's init has moved `/dev`, `/proc` and
//! `/sys` into the new root this process sees none of them; everything it needs is open by then.

use crate::console;
use crate::device_disk::DeviceDisk;
use crate::kernel_disk;
use crate::kernel_parameters::LoaderAddress;
use crate::network::keeper;
use crate::remote::{RemoteDisk, RemoteTarget};
use crate::transmission::{self, Client};
use crate::{full_cache, memory, report};
use anyhow::Context as _;
use protocol::plan::{BootPlan, BootStage, DiskPlan, WriteCachePlan};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// What init hands over on standard input, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// What to stream.
    pub(crate) plan: BootPlan,
    /// What to keep set on the network card.
    pub(crate) address: LoaderAddress,
}

/// What is written to standard output once the kernel has its disk.
pub(crate) const READY: &[u8] = b"ready\n";
/// How often the console hears that there still is no server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves the kernel's disk; returns only when that is over.
pub(crate) fn run() -> anyhow::Result<()> {
    console::use_kernel_log();
    let mut json = Vec::new();
    std::io::stdin().take(1 << 20).read_to_end(&mut json)?;
    let handover: Handover = serde_json::from_slice(&json).context("the handover from init")?;
    memory::prepare_for_pressure();
    let _ = nix::unistd::setsid(); // fails only where it has been done

    let disk = Arc::new(open(&handover.plan)?);
    let progress = report::start(&handover.plan, Arc::downgrade(&disk))?;
    keeper::start(handover.address, Arc::downgrade(&disk))?;
    if let DiskPlan::Shared { write_cache } = &handover.plan.disk {
        full_cache::start(write_cache, Arc::downgrade(&disk))?;
    }
    while !disk.remote().wait_connected(PATIENCE) {
        console::problem("no server streams the disk yet; still trying");
    }

    let (ours, kernels) = UnixStream::pair()?;
    kernel_disk::attach(&kernels, handover.plan.size.bytes())?;
    drop(kernels); // the kernel holds its own reference
    progress.reach(BootStage::DiskAttached);
    std::io::stdout().write_all(READY)?;
    let session = transmission::kernel_session(handover.plan.size.bytes());
    let end = transmission::serve(&disk, Client { socket: ours, session, early: Vec::new() });
    console::problem(format!("the kernel's disk is gone: {end}"));
    Ok(())
}

/// The disk of a plan, with an empty write cache where it has one; connects in the background.
pub(crate) fn open(plan: &BootPlan) -> anyhow::Result<DeviceDisk> {
    let remote = RemoteDisk::start(RemoteTarget::of_plan(plan)).context("a thread for the link")?;
    Ok(match plan.disk {
        DiskPlan::Shared { write_cache: WriteCachePlan::DeviceRam { limit_bytes, .. } } => {
            DeviceDisk::cached(remote, limit_bytes)
        }
        DiskPlan::Draft => DeviceDisk::draft(remote),
    })
}
