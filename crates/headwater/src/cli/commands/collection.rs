//! `headwater collection list|show|create|set|delete`

use crate::byte_size::ByteSize;
use crate::cli::Context;
use crate::cli::output::{bytes, names, or_dash, pins};
use api::{CollectionView, NewCollection, PatchCollection, WhenFull, paths};
use clap::{Args, Subcommand, ValueEnum};
use model::Name;
use reqwest::Method;

/// Collections: groups of devices with a template.
#[derive(Subcommand)]
pub(crate) enum Collection {
    /// Lists all collections
    List,
    /// Shows one collection
    Show {
        /// The collection's name
        name: Name,
    },
    /// Makes a collection
    Create(Create),
    /// Changes a collection; its devices follow at their next boot
    Set(Set),
    /// Deletes a collection without devices
    Delete {
        /// The collection's name
        name: Name,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// The collection's name
    name: Name,
    #[command(flatten)]
    template: Template,
}

#[derive(Args)]
pub(crate) struct Set {
    /// The collection's name
    name: Name,
    #[command(flatten)]
    template: Template,
}

/// What a collection gives its devices.
#[derive(Args)]
pub(crate) struct Template {
    /// What its devices boot; several make a boot menu, the first is the default
    #[arg(long = "vdisk", value_name = "VDISK")]
    vdisks: Vec<Name>,
    /// Its devices boot nothing
    #[arg(long, conflicts_with = "vdisks")]
    no_vdisk: bool,
    /// The most that a device's write cache in RAM may hold, such as 2GiB
    #[arg(long, value_name = "SIZE")]
    cache: Option<ByteSize>,
    /// What a full write cache does
    #[arg(long, value_enum)]
    when_full: Option<Full>,
    /// Kernel parameters added to the image's own, such as "console=ttyS0"
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    boot_args: Option<String>,
    /// What stands before the counter of generated names
    #[arg(long)]
    prefix: Option<String>,
    /// How many digits the counter has
    #[arg(long)]
    digits: Option<u8>,
    /// What stands behind the counter
    #[arg(long)]
    suffix: Option<String>,
    /// Whether unknown machines become devices of this collection by themselves
    #[arg(long, value_enum)]
    auto_add: Option<Switch>,
    /// Whether its machines get a host name, machine-id and SSH host key of their own at boot
    #[arg(long, value_enum)]
    identity: Option<Switch>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum Full {
    /// Writes fail with "no space left", the machine goes on
    RefuseWrites,
    /// The machine reboots, clean
    Reboot,
}

impl From<Template> for PatchCollection {
    fn from(template: Template) -> Self {
        Self {
            vdisks: (template.no_vdisk || !template.vdisks.is_empty()).then_some(template.vdisks),
            cache_limit_bytes: template.cache.map(|size| size.0),
            when_full: template.when_full.map(|when| match when {
                Full::RefuseWrites => WhenFull::RefuseWrites,
                Full::Reboot => WhenFull::Reboot,
            }),
            boot_args: template.boot_args,
            prefix: template.prefix,
            digits: template.digits,
            suffix: template.suffix,
            auto_add: template.auto_add.map(|switch| switch == Switch::On),
            identity: template.identity.map(|switch| switch == Switch::On),
        }
    }
}

impl Collection {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = &context.client;
        match self {
            Self::List => list(context).await,
            Self::Show { name } => show(context, &client.get(&paths::fill(paths::COLLECTION, name)).await?),
            Self::Create(Create { name, template }) => {
                let new = NewCollection { name, template: template.into() };
                show(context, &client.post(paths::COLLECTIONS, &new).await?)
            }
            Self::Set(Set { name, template }) => {
                let patch = PatchCollection::from(template);
                anyhow::ensure!(
                    patch != PatchCollection::default(),
                    "nothing to change was given\nhint: `headwater collection set --help` lists what can be changed"
                );
                show(context, &client.patch(&paths::fill(paths::COLLECTION, name), &patch).await?)
            }
            Self::Delete { name } => {
                client.act(Method::DELETE, &paths::fill(paths::COLLECTION, &name)).await?;
                context.output.done(&format!("collection {name} is deleted"))
            }
        }
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let collections: Vec<CollectionView> = context.client.get(paths::COLLECTIONS).await?;
    context.output.list(&collections, &["name", "vdisk", "devices", "cache", "auto-add"], |collection| {
        vec![
            collection.name.to_string(),
            names(&collection.vdisks),
            collection.devices.to_string(),
            bytes(collection.cache_limit_bytes),
            on_off(collection.auto_add).to_owned(),
        ]
    })
}

fn show(context: &Context, collection: &CollectionView) -> anyhow::Result<()> {
    context.output.one(collection, |collection| {
        let when_full = match collection.when_full {
            WhenFull::RefuseWrites => "refuse writes",
            WhenFull::Reboot => "reboot",
        };
        vec![
            ("name", collection.name.to_string()),
            ("vdisk", names(&collection.vdisks)),
            ("pinned", pins(&collection.pins)),
            ("devices", collection.devices.to_string()),
            ("write cache", bytes(collection.cache_limit_bytes)),
            ("when full", when_full.to_owned()),
            ("boot args", collection.boot_args.clone()),
            ("next name", or_dash(collection.next_name.as_ref())),
            ("auto-add", on_off(collection.auto_add).to_owned()),
            ("identity", on_off(collection.identity).to_owned()),
        ]
    })
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
