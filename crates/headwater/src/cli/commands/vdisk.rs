//! `headwater vdisk list|show|set|import|export|delete`

mod export;
mod import;

use super::version;
use crate::byte_size::ByteSize;
use crate::cli::Context;
use crate::cli::output::{Output, bytes, or_dash, print, time_of};
use crate::cli::since::Span;
use api::{PatchVDisk, VDiskView, VersionView, paths};
use clap::{ArgGroup, Subcommand, ValueEnum};
use model::Name;
use reqwest::Method;

/// vDisks: what the devices boot.
#[derive(Subcommand)]
pub(crate) enum VDisk {
    /// Lists all vDisks
    List,
    /// Shows one vDisk and its versions
    Show {
        /// The vDisk's name
        name: Name,
    },
    /// Makes a vDisk of a disk image
    Import(import::Import),
    /// Writes a vDisk into a file
    Export(export::Export),
    /// Changes a vDisk's settings
    #[command(group(ArgGroup::new("change").required(true).multiple(true)))]
    Set {
        /// The vDisk's name
        name: Name,
        /// What runs against its drafts before they are sealed, in order
        #[arg(long = "hook", value_name = "NAME", value_delimiter = ',', group = "change")]
        hooks: Vec<Name>,
        /// Runs nothing
        #[arg(long, conflicts_with = "hooks", group = "change")]
        no_hooks: bool,
        /// Saves open drafts after this time with changes, such as 30s, so that other servers get
        /// them; 0s as each server's configuration says
        #[arg(long, value_name = "TIME", group = "change")]
        checkpoint_every: Option<Span>,
        /// Saves them after so many changed bytes if that is earlier, such as 256MiB; 0 as each
        /// server's configuration says
        #[arg(long, value_name = "SIZE", group = "change")]
        checkpoint_after: Option<ByteSize>,
    },
    /// Deletes a vDisk and all its versions
    Delete {
        /// The vDisk's name
        name: Name,
    },
}

/// The format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The disk's bytes, nothing else
    Raw,
    /// QEMU's copy-on-write format
    Qcow2,
}

impl From<Format> for api::ImageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Raw => Self::Raw,
            Format::Qcow2 => Self::Qcow2,
        }
    }
}

impl VDisk {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::List => list(context).await,
            Self::Show { name } => show(context, &find(context, &name).await?),
            Self::Import(import) => import.run(context).await,
            Self::Export(export) => export.run(context).await,
            Self::Set { name, hooks, no_hooks, checkpoint_every, checkpoint_after } => {
                let patch = PatchVDisk {
                    hooks: (no_hooks || !hooks.is_empty()).then_some(hooks),
                    checkpoint_s: checkpoint_every.map(|span| span.0.as_secs()),
                    checkpoint_bytes: checkpoint_after.map(|size| size.0),
                };
                let vdisk = context.client.patch(&paths::fill(paths::VDISK, &name), &patch).await?;
                show(context, &vdisk)
            }
            Self::Delete { name } => {
                context.client.act(Method::DELETE, &paths::fill(paths::VDISK, &name)).await?;
                context.output.done(&format!("vDisk {name} is deleted"))
            }
        }
    }
}

async fn find(context: &Context, name: &Name) -> anyhow::Result<VDiskView> {
    Ok(context.client.get(&paths::fill(paths::VDISK, name)).await?)
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let vdisks: Vec<VDiskView> = context.client.get(paths::VDISKS).await?;
    context.output.list(&vdisks, &["name", "version", "access", "size", "data", "kernel"], |vdisk| {
        let boots = vdisk.versions.iter().find(|version| version.in_production);
        let newest = boots.or(vdisk.versions.last());
        let of = |field: fn(&VersionView) -> String| newest.map(field).unwrap_or_default();
        vec![
            vdisk.name.to_string(),
            of(|version| version.number.to_string()),
            of(|version| version.access.to_string()),
            bytes(vdisk.size_bytes),
            of(|version| bytes(version.data_bytes)),
            of(kernel),
        ]
    })
}

fn kernel(version: &VersionView) -> String {
    let not_bootable = || version.not_bootable.as_ref().map(|_| "none: cannot be booted".to_owned());
    version.kernel.clone().or_else(not_bootable).unwrap_or_default()
}

/// Prints a vDisk, also one that was just imported.
pub(super) fn show(context: &Context, vdisk: &VDiskView) -> anyhow::Result<()> {
    context.output.one(vdisk, |vdisk| {
        let mut fields = vec![
            ("name", vdisk.name.to_string()),
            ("store", vdisk.store.to_string()),
            ("size", format!("{} ({} bytes)", bytes(vdisk.size_bytes), vdisk.size_bytes)),
            ("created", time_of(vdisk.created_ms)),
            ("production", or_dash(vdisk.production.map(|number| format!("version {number}")))),
        ];
        if !vdisk.hooks.is_empty() {
            let hooks: Vec<&str> = vdisk.hooks.iter().map(Name::as_str).collect();
            fields.push(("hooks", hooks.join(", ")));
        }
        fields.extend(vdisk.checkpoint_s.map(|every| ("saved every", format!("{every} s"))));
        fields.extend(vdisk.checkpoint_bytes.map(|after| ("saved after", bytes(after))));
        fields.extend(vdisk.pinned.map(|number| ("pinned", format!("version {number}"))));
        if let Some(version) = vdisk.versions.iter().find(|version| version.in_production) {
            fields.push(("root", version.root.to_string()));
            fields.push(("data", bytes(version.data_bytes)));
            fields.push(("kernel", kernel(version)));
            fields.extend(version.not_bootable.clone().map(|reason| ("why", reason)));
        }
        fields
    })?;
    match context.output {
        Output::Table => print(&format!("\n{}", version::table(&vdisk.versions))),
        Output::Json => Ok(()),
    }
}
