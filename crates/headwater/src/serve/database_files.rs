//! Where a server keeps its database, and whether that was moved elsewhere.

use super::farm::now;
use anyhow::{Result, bail};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The embedded database's file in the state directory.
const EMBEDDED: &str = "farm.db";
/// Beside it once its records are on their way to etcd: says where to, and when.
const MIGRATED: &str = "farm.db.migrated";
/// How the file begins as long as not all of them are known to be there.
const BEGUN: &str = "being moved to etcd";
/// The file in the state directory with what was last known of a database on etcd.
const REMEMBERED: &str = "farm.records";

/// How far the records of an embedded database are on their way to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Migration {
    /// Some may be there.
    Begun,
    /// All are there.
    Done,
}

/// The embedded database's file.
pub(crate) fn embedded(state_dir: &Path) -> PathBuf {
    state_dir.join(EMBEDDED)
}

/// What a server falls back to while etcd is away.
pub(super) fn remembered(state_dir: &Path) -> PathBuf {
    state_dir.join(REMEMBERED)
}

/// Forgets what was last known of a database: an admin says that an older state is right.
pub(super) fn forget(remembered: &Path) -> Result<()> {
    let dir = remembered.parent().expect("a file in a directory");
    // After a power loss it must not be back: servers would take the restored records for old ones.
    let removed = std::fs::remove_file(remembered).and_then(|()| File::open(dir)?.sync_all());
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("{} cannot be removed: {error}", remembered.display())
        }
        _ => Ok(()),
    }
}

/// Whether the records are on their way elsewhere, or there, and in words.
fn migration_of(state_dir: &Path) -> Result<Option<(Migration, String)>> {
    let marker = state_dir.join(MIGRATED);
    match std::fs::read_to_string(&marker) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => bail!("{} cannot be read: {error}", marker.display()),
        Ok(text) if text.starts_with(BEGUN) => Ok(Some((Migration::Begun, text.trim().to_owned()))),
        Ok(text) => Ok(Some((Migration::Done, text.trim().to_owned()))),
    }
}

/// Whether the records are on their way elsewhere, or there.
pub(crate) fn migration(state_dir: &Path) -> Result<Option<Migration>> {
    Ok(migration_of(state_dir)?.map(|(migration, _)| migration))
}

/// Refuses an embedded database whose records were moved, or may have been: what is changed in it
/// would be lost.
pub(crate) fn check_not_migrated(state_dir: &Path) -> Result<()> {
    let (file, marker) = (embedded(state_dir), state_dir.join(MIGRATED));
    let (file, marker) = (file.display(), marker.display());
    match migration_of(state_dir)? {
        None => Ok(()),
        Some((Migration::Begun, text)) => bail!(
            "the farm's records are on their way from {file}: {text}\n\
             hint: run `headwater farm migrate` again; if this farm stays as it is, remove {marker}"
        ),
        Some((Migration::Done, text)) => bail!(
            "the farm's records are not in {file} any more: {text}\n\
             hint: set farm.database = \"etcd\" and farm.endpoints; to go back to the records as they were then, \
             remove {marker}"
        ),
    }
}

/// Notes, durably, how far the records are; answers where that is noted.
pub(crate) fn mark_migration(
    state_dir: &Path,
    endpoints: &[String],
    migration: Migration,
) -> std::io::Result<PathBuf> {
    let path = state_dir.join(MIGRATED);
    let staged = path.with_extension("migrated.new");
    let (what, endpoints, at) =
        (migration.text(), endpoints.join(", "), crate::cli::output::time_of(now().0));
    let mut file = File::create(&staged)?;
    writeln!(file, "{what} ({endpoints}) at {at}")?;
    file.sync_all()?;
    std::fs::rename(&staged, &path)?;
    File::open(state_dir)?.sync_all()?;
    Ok(path)
}

/// Takes back that records are on their way: none are.
pub(crate) fn unmark_migration(state_dir: &Path) -> std::io::Result<()> {
    std::fs::remove_file(state_dir.join(MIGRATED))?;
    File::open(state_dir)?.sync_all()
}

impl Migration {
    fn text(self) -> &'static str {
        match self {
            Self::Begun => BEGUN,
            Self::Done => "moved to etcd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_was_moved_says_where_to_and_how_to_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let mark = |migration| {
            mark_migration(dir.path(), &["http://e:2379".to_owned()], migration).unwrap();
            check_not_migrated(dir.path()).unwrap_err().to_string()
        };
        assert!(check_not_migrated(dir.path()).is_ok());
        let begun = mark(Migration::Begun);
        assert!(begun.contains("http://e:2379") && begun.contains("farm migrate` again"), "{begun}");
        assert_eq!(migration(dir.path()).unwrap(), Some(Migration::Begun));
        let done = mark(Migration::Done);
        assert!(done.contains("moved to etcd (http://e:2379)") && done.contains("hint: "), "{done}");
        assert_eq!(migration(dir.path()).unwrap(), Some(Migration::Done));
        unmark_migration(dir.path()).unwrap();
        assert!(check_not_migrated(dir.path()).is_ok());
    }
}
