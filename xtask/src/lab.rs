//! `cargo xtask lab`: prepares the machine and hands over to `headwater lab`.
//!
//! The lab itself is part of the product; here are only packages, programs and an image.

use crate::binaries::{self, Binaries, Build};
use crate::image::{self, Recipe};
use crate::packages::{self, Purpose};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::process::Command;

/// The image that the lab boots.
const IMAGE: &str = "debian-initramfs";

/// Runs the lab with further arguments for it, and fails where it fails.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let several = arguments.iter().any(|argument| argument.as_encoded_bytes().starts_with(b"--servers"));
    packages::install(if several { Purpose::LabFarm } else { Purpose::Lab })?;
    let Binaries { headwater, agent } = binaries::build(Build::Release)?;
    let image = image::make(Recipe::named(IMAGE).context("the lab's image has a recipe")?)?;
    let mut lab = Command::new(headwater);
    lab.arg("lab").arg("--agent").arg(agent).arg("--image").arg(image).args(arguments);
    // Ctrl-C reaches the lab as well, which ends its machines in order: wait for it.
    let status = lab.status().context("could not start headwater lab")?;
    match status.success() {
        true => Ok(()),
        false => bail!("the lab ended with {status}"),
    }
}
