//! `headwater device list|show|add|set|assign|remove`

use crate::cli::Context;
use crate::cli::output::{names, pins, time_of};
use api::{DeviceKind, DeviceView, NewDevice, PatchDevice, paths};
use clap::{Args, Subcommand, ValueEnum};
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
    /// Makes a device boot other vDisks than its collection's
    Assign(Assign),
    /// Removes a device
    Remove {
        /// The device's name
        name: Name,
    },
}

/// Which versions a device boots.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// What is in production
    Production,
    /// The newest version in test, else what is in production
    Test,
    /// A draft, to write it
    Maintenance,
}

impl From<Kind> for DeviceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Production => Self::Production,
            Kind::Test => Self::Test,
            Kind::Maintenance => Self::Maintenance,
        }
    }
}

fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Production => "production",
        DeviceKind::Test => "test",
        DeviceKind::Maintenance => "maintenance",
    }
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
    /// A vDisk of its own [default: the collection's]; several make a boot menu
    #[arg(long = "vdisk", value_name = "VDISK")]
    vdisks: Vec<Name>,
    /// Which versions it boots
    #[arg(long, value_enum, default_value_t = Kind::Production)]
    kind: Kind,
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
    /// Which versions it boots
    #[arg(long, value_enum)]
    kind: Option<Kind>,
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
    /// The vDisk; several make a boot menu, the first is the default
    #[arg(required_unless_present = "collection_default", value_name = "VDISK")]
    vdisks: Vec<Name>,
    /// Takes the device's own assignment away
    #[arg(long, conflicts_with = "vdisks")]
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
    context.output.list(
        &devices,
        &["name", "mac", "collection", "vdisk", "kind", "sessions", "state"],
        |device| {
            vec![
                device.name.to_string(),
                device.mac.to_string(),
                device.collection.to_string(),
                names(&device.vdisks),
                kind(device.kind).to_owned(),
                device.sessions.to_string(),
                device.not_booting.clone().unwrap_or_else(|| "ok".to_owned()),
            ]
        },
    )
}

/// Prints a device, also one that was just made or changed.
pub(super) fn show(context: &Context, device: &DeviceView) -> anyhow::Result<()> {
    context.output.one(device, |device| {
        vec![
            ("name", device.name.to_string()),
            ("mac", device.mac.to_string()),
            ("collection", device.collection.to_string()),
            ("kind", kind(device.kind).to_owned()),
            ("vdisk", names(&device.vdisks)),
            ("assigned", names(&device.assigned_vdisks)),
            ("pinned", pins(&device.pins)),
            ("sessions", device.sessions.to_string()),
            ("state", device.not_booting.clone().unwrap_or_else(|| "ok".to_owned())),
            ("added", time_of(device.created_ms)),
        ]
    })
}

impl Add {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Self { mac, name, collection, vdisks, kind } = self;
        let new = NewDevice { mac, name, collection: Some(collection), vdisks, kind: kind.into() };
        show(context, &context.client.post(paths::DEVICES, &new).await?)
    }
}

impl Set {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Changes { name, collection, kind, disable, enable } = self.changes;
        let disabled = (disable || enable).then_some(disable);
        let kind = kind.map(Into::into);
        let patch = PatchDevice { name, collection, vdisks: None, kind, disabled };
        show(context, &context.client.patch(&paths::fill(paths::DEVICE, self.device), &patch).await?)
    }
}

impl Assign {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let patch = PatchDevice { vdisks: Some(self.vdisks), ..PatchDevice::default() };
        show(context, &context.client.patch(&paths::fill(paths::DEVICE, self.name), &patch).await?)
    }
}
