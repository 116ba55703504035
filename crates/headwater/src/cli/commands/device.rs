//! `headwater device list|show|add|set|assign|remove`

use crate::cli::Context;
use crate::cli::output::{or_dash, time_of};
use api::{DeviceView, NewDevice, PatchDevice, paths};
use clap::{Args, Subcommand};
use model::{MacAddress, Name};
use reqwest::Method;

/// Devices: the diskless machines.
#[derive(Subcommand)]
pub(crate) enum Device {
    /// Lists all devices
    List,
    /// Shows one device
    Show {
        /// The device's name
        name: Name,
    },
    /// Adds a device
    Add(Add),
    /// Renames, moves, disables or enables a device
    Set(Set),
    /// Makes a device boot another vDisk than its collection's
    Assign(Assign),
    /// Removes a device
    Remove {
        /// The device's name
        name: Name,
    },
}

#[derive(Args)]
pub(crate) struct Add {
    /// The device's address, such as 52:54:00:12:34:56
    mac: MacAddress,
    /// Its name [default: made by the collection's pattern]
    #[arg(long)]
    name: Option<Name>,
    /// Its collection
    #[arg(long, default_value = "default")]
    collection: Name,
    /// A vDisk of its own [default: the collection's]
    #[arg(long)]
    vdisk: Option<Name>,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Changes {
    /// A new name
    #[arg(long, value_name = "NEW")]
    name: Option<Name>,
    /// The collection to move to
    #[arg(long)]
    collection: Option<Name>,
    /// Keeps it from booting
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Lets it boot
    #[arg(long)]
    enable: bool,
}

#[derive(Args)]
pub(crate) struct Set {
    /// The device's name
    #[arg(id = "device", value_name = "NAME")]
    device: Name,
    #[command(flatten)]
    changes: Changes,
}

#[derive(Args)]
pub(crate) struct Assign {
    /// The device's name
    name: Name,
    /// The vDisk
    #[arg(required_unless_present = "collection_default")]
    vdisk: Option<Name>,
    /// Takes the device's own assignment away
    #[arg(long, conflicts_with = "vdisk")]
    collection_default: bool,
}

impl Device {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::List => list(context).await,
            Self::Show { name } => {
                let device = context.client.get(&paths::fill(paths::DEVICE, name)).await?;
                show(context, &device)
            }
            Self::Add(add) => add.run(context).await,
            Self::Set(set) => set.run(context).await,
            Self::Assign(assign) => assign.run(context).await,
            Self::Remove { name } => {
                context.client.act(Method::DELETE, &paths::fill(paths::DEVICE, &name)).await?;
                context.output.done(&format!("device {name} is removed"))
            }
        }
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let devices: Vec<DeviceView> = context.client.get(paths::DEVICES).await?;
    context.output.list(&devices, &["name", "mac", "collection", "vdisk", "sessions", "state"], |device| {
        vec![
            device.name.to_string(),
            device.mac.to_string(),
            device.collection.to_string(),
            or_dash(device.vdisk.as_ref()),
            device.sessions.to_string(),
            device.not_booting.clone().unwrap_or_else(|| "ok".to_owned()),
        ]
    })
}

/// Prints a device, also one that was just made or changed.
pub(super) fn show(context: &Context, device: &DeviceView) -> anyhow::Result<()> {
    context.output.one(device, |device| {
        vec![
            ("name", device.name.to_string()),
            ("mac", device.mac.to_string()),
            ("collection", device.collection.to_string()),
            ("vdisk", or_dash(device.vdisk.as_ref())),
            ("assigned", or_dash(device.assigned_vdisk.as_ref())),
            ("sessions", device.sessions.to_string()),
            ("state", device.not_booting.clone().unwrap_or_else(|| "ok".to_owned())),
            ("added", time_of(device.created_ms)),
        ]
    })
}

impl Add {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Self { mac, name, collection, vdisk } = self;
        let new = NewDevice { mac, name, collection: Some(collection), vdisk };
        show(context, &context.client.post(paths::DEVICES, &new).await?)
    }
}

impl Set {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Changes { name, collection, disable, enable } = self.changes;
        let disabled = (disable || enable).then_some(disable);
        let patch = PatchDevice { name, collection, vdisk: None, disabled };
        show(context, &context.client.patch(&paths::fill(paths::DEVICE, self.device), &patch).await?)
    }
}

impl Assign {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let patch = PatchDevice { vdisk: Some(self.vdisk), ..PatchDevice::default() };
        show(context, &context.client.patch(&paths::fill(paths::DEVICE, self.name), &patch).await?)
    }
}
