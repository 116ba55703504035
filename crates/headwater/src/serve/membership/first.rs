//! The first identity of a farm, `headwater farm init`, in steps of which each may be the last before
//! a crash.
//!
//! The identity is written beside its place and synced, then the records are committed, then it is
//! moved to its place. Whether a half-made one counts is decided by the records: they have its serial
//! or they do not.

use super::IDENTITY_DIR;
use crate::serve::farm::FarmHandle;
use anyhow::{Context, Result};
use farm::FarmView;
use mesh::identity::ServerIdentity;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Beside the identity's directory, until the records are committed.
const STAGED: &str = "identity.init";

/// What became of an identity that an earlier `farm init` left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// There was none, or the records do not know it: it is gone.
    Nothing,
    /// The records have it: it is in its place now.
    Finished,
}

/// Writes an identity durably where it does not count yet.
pub(super) fn stage(state_dir: &Path, identity: &ServerIdentity) -> Result<()> {
    let staged = state_dir.join(STAGED);
    identity.save(&staged)?;
    sync(&staged)?;
    sync(state_dir)
}

/// Puts the staged identity in its place.
pub(super) fn finish(state_dir: &Path) -> Result<()> {
    let (staged, place) = (state_dir.join(STAGED), state_dir.join(IDENTITY_DIR));
    fs::rename(&staged, &place).with_context(|| format!("{} cannot be made", place.display()))?;
    sync(state_dir)
}

/// Deletes a staged identity that the records certainly do not have.
pub(super) fn give_up(state_dir: &Path) {
    // One that stays is found out about at the next start.
    let _ = fs::remove_dir_all(state_dir.join(STAGED));
}

/// Goes on where an earlier run was ended. To be asked while the records are up to date only: what
/// they do not know is deleted.
pub(super) fn resume(state_dir: &Path, farm: &FarmHandle) -> Result<Left> {
    let staged = state_dir.join(STAGED);
    if !staged.exists() {
        return Ok(Left::Nothing);
    }
    // One that was cut off while it was written is not readable, and in no record.
    let identity = ServerIdentity::load(&staged).ok().flatten();
    if identity.is_some_and(|identity| is_recorded(&farm.view(), farm, &identity)) {
        finish(state_dir)?;
        tracing::info!("`farm init` was interrupted: it is finished now");
        return Ok(Left::Finished);
    }
    fs::remove_dir_all(&staged).with_context(|| format!("{} cannot be deleted", staged.display()))?;
    Ok(Left::Nothing)
}

fn is_recorded(view: &FarmView, farm: &FarmHandle, identity: &ServerIdentity) -> bool {
    let member = view.servers.get(farm.server()).and_then(|server| server.member.as_ref());
    let serial = identity.peer().serial.to_string();
    member.is_some_and(|member| member.serials.contains(&serial))
}

fn sync(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("{} cannot be synced", PathBuf::from(directory).display()))
}

#[cfg(test)]
mod tests;
