//! An admin who imports a small vDisk now and then, on any server.

use super::random::Random;
use super::workload::{Shared, pause};
use crate::ledger::{self, BLOCK};
use anyhow::Result;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Blocks of a small vDisk: 4 MiB, of which three quarters are data.
const BLOCKS: usize = (4 << 20) / BLOCK;
/// Epochs of imports, apart from the writer's.
const FIRST_EPOCH: u64 = 1 << 32;

/// Imports until the work ends.
pub(super) fn run(shared: &Shared, mut random: Random, every: Duration) {
    for count in 1.. {
        pause(shared, every);
        if shared.stopped() {
            return;
        }
        let n = random.index(shared.seats.len());
        if let Err(error) = import(shared, n, &format!("small-{count:03}"), FIRST_EPOCH + count) {
            shared.said(&error);
        }
    }
}

/// Imports a small vDisk on server `n`, made of patterns of this epoch.
pub fn import(shared: &Shared, n: usize, name: &str, epoch: u64) -> Result<()> {
    let content = ledger::content(BLOCKS, epoch, 3, 4);
    let folder = tempfile::Builder::new().prefix("headwater-e2e-import-").tempdir_in("/var/tmp")?;
    let image = folder.path().join("image.raw");
    std::fs::write(&image, ledger::bytes(&content))?;
    let version = (name.to_owned(), 1);
    shared.may_be_true(version.clone(), content.clone());
    shared.seats[n].cli(&["vdisk", "import", name, &image.display().to_string()])?;
    shared.is_true(version, content);
    shared.tally.imports.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
