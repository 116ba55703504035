//! `headwater vdisk export NAME FILE`

use super::Format;
use crate::cli::Context;
use crate::cli::job::follow;
use anyhow::{Context as _, Result};
use api::{ExportVDisk, paths};
use clap::Args;
use model::Name;
use std::path::{Path, PathBuf};

/// Writes a vDisk into a new file on the server.
#[derive(Args)]
pub(crate) struct Export {
    /// The vDisk's name
    name: Name,
    /// The new file, on the server
    file: PathBuf,
    /// The format to write [default: qcow2 where the file's name ends so, else raw]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Which version [default: the one in production]
    #[arg(long)]
    version: Option<u32>,
}

impl Export {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let by_name = || match self.file.extension().is_some_and(|end| end == "qcow2") {
            true => Format::Qcow2,
            false => Format::Raw,
        };
        let format = self.format.unwrap_or_else(by_name).into();
        let request = ExportVDisk { path: absolute(&self.file)?, format, version: self.version };
        let path = paths::fill(paths::VDISK_EXPORT, &self.name);
        follow(context, context.client.post(&path, &request)).await?;
        context.output.done(&format!("vDisk {} is in {}", self.name, request.path.display()))
    }
}

/// The file as the server must name it: it does not know our directory.
fn absolute(file: &Path) -> Result<PathBuf> {
    std::path::absolute(file).with_context(|| format!("{} is no path", file.display()))
}
