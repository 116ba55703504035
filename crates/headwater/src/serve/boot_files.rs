//! The kernel and initrd of a root, ready to be served: read out of the image once, kept as files.
//!
//! They are a cache: everything under `state_dir/boot/` can be deleted and is made again from the
//! store at the next boot. A folder's name carries the root and the agent's hash, so that a new
//! agent is never served out of an old initrd. A folder is published by rename, so it is whole or
//! not there; it need not survive a power cut and is not fsynced.

use super::disks::DiskError;
use boot::initrd::DeviceInitrd;
use image::{BootFilesError, ImageReader, RootSpec};
use model::Root;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use store::StoredVersion;

/// What the boot endpoints need to know of a root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bootable {
    /// The kernel's version, for people.
    pub(crate) kernel_version: String,
    uuid: Option<String>,
    part_uuid: Option<String>,
    partition: Option<u32>,
    /// The image's own kernel parameters.
    pub(crate) args: Vec<String>,
    /// Where the files lie.
    #[serde(skip)]
    folder: PathBuf,
}

impl Bootable {
    /// Where the root file system is.
    pub(crate) fn root_spec(&self) -> RootSpec {
        let (uuid, part_uuid) = (self.uuid.clone(), self.part_uuid.clone());
        RootSpec { uuid, part_uuid, partition: self.partition }
    }

    /// The image's own kernel, to the byte.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join(KERNEL)
    }

    /// The image's own initrd, to the byte, followed by ours.
    pub(crate) fn initrd(&self) -> PathBuf {
        self.folder.join(INITRD)
    }
}

const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initrd";
const META: &str = "bootable.json";

/// Why a root cannot be booted by us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootableError {
    /// The image lacks something.
    #[error(transparent)]
    Image(#[from] BootFilesError),
    /// The version cannot be read here.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is no agent to put into the initrd.
    #[error("the agent {path} cannot be read: {source}")]
    Agent {
        /// Where it was looked for.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The cache folder cannot be written.
    #[error("{path}: {source}")]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Makes and finds the boot files of roots. Blocking: call it on a thread that may wait.
pub(crate) struct BootFileCache {
    dir: PathBuf,
    agent: PathBuf,
    /// One lock a root being made: a hundred machines that ask at once share one extraction.
    making: Mutex<HashMap<Root, Arc<Mutex<()>>>>,
}

impl BootFileCache {
    /// A cache under `dir` for initrds that carry the agent at `agent`.
    pub(crate) fn new(dir: PathBuf, agent: PathBuf) -> Self {
        Self { dir, agent, making: Mutex::default() }
    }

    /// The boot files of a version, made now where they are not there yet.
    pub(crate) fn get(&self, root: Root, image: Arc<dyn ImageReader>) -> Result<Bootable, BootableError> {
        let agent = fs::read(&self.agent)
            .map_err(|source| BootableError::Agent { path: self.agent.clone(), source })?;
        let folder = self.dir.join(format!("{root}-{}", &blake3::hash(&agent).to_hex()[..16]));
        if let Some(ready) = load(&folder) {
            return Ok(ready);
        }
        let turn = Arc::clone(self.making.lock().expect("never poisoned").entry(root).or_default());
        let made = {
            let _turn = turn.lock().expect("a maker that fails returns an error");
            match load(&folder) {
                Some(ready) => Ok(ready),
                None => make(image, &agent, &folder),
            }
        };
        self.making.lock().expect("never poisoned").remove(&root);
        made
    }

    /// Deletes the files of a root that is gone.
    pub(crate) fn forget(&self, root: &Root) {
        let prefix = root.to_string();
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            // A cache entry that stays behind costs space, never correctness.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether machines can boot from a version, as its record says it. Blocking.
pub(crate) fn inspect(version: Arc<StoredVersion>) -> farm::Bootable {
    let image: Arc<dyn ImageReader> = version;
    match image::find_boot_files(&image) {
        Ok(files) => farm::Bootable::Linux {
            kernel_version: files.kernel_version.clone(),
            root_spec: files.root_spec.to_string(),
        },
        Err(error) => farm::Bootable::No { reason: error.to_string() },
    }
}

fn load(folder: &Path) -> Option<Bootable> {
    let meta = fs::read(folder.join(META)).ok()?;
    let ready: Bootable = serde_json::from_slice(&meta).ok()?;
    Some(Bootable { folder: folder.to_owned(), ..ready })
}

fn make(reader: Arc<dyn ImageReader>, agent: &[u8], folder: &Path) -> Result<Bootable, BootableError> {
    let files = image::find_boot_files(&reader)?;
    let bootable = Bootable {
        kernel_version: files.kernel_version.clone(),
        uuid: files.root_spec.uuid,
        part_uuid: files.root_spec.part_uuid,
        partition: files.root_spec.partition,
        args: files.args.clone(),
        folder: folder.to_owned(),
    };
    let parent = folder.parent().expect("a folder in the cache");
    let failed = |path: &Path, source| BootableError::Cache { path: path.to_owned(), source };
    fs::create_dir_all(parent).map_err(|e| failed(parent, e))?;
    let staging =
        tempfile::Builder::new().prefix(".making-").tempdir_in(parent).map_err(|e| failed(parent, e))?;
    let appendix = boot::initrd::appendix(agent, &files.modules, &files.aliases)
        .map_err(|e| failed(Path::new(INITRD), e))?;
    let initrd = DeviceInitrd::new(files.initrd.into(), appendix).parts().concat();
    let meta = serde_json::to_vec_pretty(&bootable).expect("plain fields");
    for (name, bytes) in [(KERNEL, files.kernel.as_slice()), (INITRD, &initrd), (META, &meta)] {
        let path = staging.path().join(name);
        fs::write(&path, bytes).map_err(|e| failed(&path, e))?;
    }
    fs::rename(staging.path(), folder).map_err(|e| failed(folder, e))?;
    Ok(bootable)
}
