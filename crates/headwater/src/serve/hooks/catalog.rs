//! Which hooks there are: the built-in ones, and programs in a directory that only the admin writes.

use super::HookError;
use model::Name;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Takes the identity out of a Linux image.
pub(super) const LINUX_CLEAN: &str = "linux-clean";
/// The most programs that are listed; more are still found by their names.
const LIST_LIMIT: usize = 256;
/// Write permission of group and others, and the execute permissions.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const EXECUTABLE: u32 = 0o111;

/// What a hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookKind {
    /// Part of this program.
    BuiltIn,
    /// A program of the admin's.
    Program,
}

/// A hook as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedHook {
    pub(crate) name: Name,
    pub(crate) kind: HookKind,
    /// Why it is not run; none where it is.
    pub(crate) refused: Option<String>,
}

/// A hook that may be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    BuiltIn,
    Program(PathBuf),
}

/// Finds hooks by name.
#[derive(Clone, Debug)]
pub(super) struct Catalog {
    directory: PathBuf,
}

impl Catalog {
    /// Programs lie in `directory`, which need not exist.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The hook of a name, where it may be run.
    pub(super) fn find(&self, hook: &Name) -> Result<Found, HookError> {
        if hook.as_str() == LINUX_CLEAN {
            return Ok(Found::BuiltIn);
        }
        let path = self.directory.join(hook.as_str());
        if path.symlink_metadata().is_err() {
            return Err(HookError::Unknown { hook: hook.to_string() });
        }
        match self.objection(&path) {
            Some(reason) => Err(HookError::Refused { hook: hook.clone(), reason }),
            None => Ok(Found::Program(path)),
        }
    }

    /// Every hook by name. Files whose names are no hook names, such as `README`, are left out.
    pub(super) fn list(&self) -> Vec<ListedHook> {
        let built_in = Name::new(LINUX_CLEAN).expect("a name");
        let mut hooks = vec![ListedHook { name: built_in, kind: HookKind::BuiltIn, refused: None }];
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for entry in entries.take(LIST_LIMIT) {
            let name = entry.file_name().to_str().and_then(|name| Name::new(name).ok());
            let Some(name) = name.filter(|name| name.as_str() != LINUX_CLEAN) else { continue };
            let refused = self.objection(&entry.path());
            hooks.push(ListedHook { name, kind: HookKind::Program, refused });
        }
        hooks.sort_by(|a, b| a.name.cmp(&b.name));
        hooks
    }

    /// Why a program is not run: who may change it, or the directory it lies in, runs as the server.
    fn objection(&self, path: &Path) -> Option<String> {
        let unreadable = |path: &Path, error| Some(format!("{}: {error}", path.display()));
        let directory = match self.directory.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return unreadable(&self.directory, error),
        };
        let file = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) => return unreadable(path, error),
        };
        if !file.is_file() {
            return Some(format!("{} is not a regular file\nhint: copy the program there", path.display()));
        }
        if file.mode() & EXECUTABLE == 0 {
            let path = path.display();
            return Some(format!("{path} is not executable\nhint: `chmod 755 {path}`"));
        }
        changeable(&self.directory, &directory).or_else(|| changeable(path, &file))
    }
}

/// Why others than root and the server's own user could change a file or directory.
fn changeable(path: &Path, metadata: &Metadata) -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    let path = path.display();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Some(format!("{path} belongs to user {}\nhint: `chown root {path}`", metadata.uid()));
    }
    (metadata.mode() & WRITABLE_BY_OTHERS != 0)
        .then(|| format!("others may write to {path}\nhint: `chmod go-w {path}`"))
}
