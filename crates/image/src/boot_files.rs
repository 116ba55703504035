//! What a device needs to start from an image: kernel, initrd, modules, and where the root is.
//!
//! Read once, when a version is sealed or imported: the files are served to devices from then on
//! (DESIGN section 8). Looks at ext2/3/4 and FAT; for anything else the error names what is there.
//! File systems are parsed by kept crates; whatever they make of a damaged image, including a
//! panic, is an error of this one search.
//!
//! Read next: `kernel` chooses the pair, `modules` the drivers, `arguments` the kernel's options,
//! `tree` hides which file system it is.

mod arguments;
mod kernel;
mod modules;
mod tree;

use crate::partitions::{Partition, find_partitions};
use crate::reader::ImageReader;
use crate::window::{Budget, Window};
use std::fmt;
use std::sync::Arc;
use tree::{Tree, TreeError};

/// What was found in an image.
#[derive(Clone, Debug)]
pub struct BootFiles {
    /// The kernel's release, e.g. `6.1.0-37-cloud-amd64`.
    pub kernel_version: String,
    /// The kernel's image, as it is on the disk.
    pub kernel: Vec<u8>,
    /// The stock initrd, as it is on the disk.
    pub initrd: Vec<u8>,
    /// Where the root file system is.
    pub root_spec: RootSpec,
    /// The image's own kernel arguments that are worth keeping; each of them free of spaces,
    /// quotes and dollar signs.
    pub args: Vec<String>,
    /// `nbd` and the drivers of network cards, with what they need, in the order to load them.
    pub modules: Vec<ModuleFile>,
    /// The lines of `modules.alias` that name one of `modules`.
    pub aliases: String,
}

/// A kernel module out of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleFile {
    /// Its name with underscores, e.g. `virtio_net`.
    pub name: String,
    /// Its path below `/lib/modules/VERSION/`, e.g. `kernel/drivers/net/virtio_net.ko.xz`.
    pub path: String,
    /// Its bytes as they are on the disk, compressed where the path says so.
    pub bytes: Vec<u8>,
    /// The names of the modules that must be loaded before.
    pub depends: Vec<String>,
}

/// The root file system's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootSpec {
    /// The file system's UUID in lower case; none where the image has none.
    pub uuid: Option<String>,
    /// The partition's PARTUUID; none on a disk without a partition table.
    pub part_uuid: Option<String>,
    /// The partition's number; none on a disk without a partition table.
    pub partition: Option<u32>,
}

impl fmt::Display for RootSpec {
    /// The value for the kernel's `root=`: `UUID=...`, else `PARTUUID=...`, else the first disk.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.uuid, &self.part_uuid, self.partition) {
            (Some(uuid), _, _) => write!(f, "UUID={uuid}"),
            (None, Some(part_uuid), _) => write!(f, "PARTUUID={part_uuid}"),
            (None, None, Some(number)) => write!(f, "/dev/nbd0p{number}"),
            (None, None, None) => write!(f, "/dev/nbd0"),
        }
    }
}

/// Why an image cannot be booted over the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootFilesError {
    /// No partition has an ext file system with `/etc` and `/usr` or `/lib`.
    #[error("no root file system found: looked for ext2, ext3 or ext4 with /etc and /usr or /lib; {found}")]
    NoFileSystem {
        /// What each partition holds instead, e.g. `partition 1 holds xfs`.
        found: String,
    },
    /// No kernel in any place where distributions put theirs.
    #[error("no kernel found: looked for {looked_for}")]
    NoKernel {
        /// The names and directories that were looked at.
        looked_for: String,
    },
    /// Kernels, but none with an initrd beside it.
    #[error("kernel {kernel_version} has no initrd: looked for {looked_for}")]
    NoInitrd {
        /// The newest kernel found.
        kernel_version: String,
        /// The names that were tried.
        looked_for: String,
    },
    /// The kernel cannot attach a streamed disk.
    #[error(
        "kernel {kernel_version} has no nbd module: looked in /lib/modules/{kernel_version}/modules.dep and modules.builtin"
    )]
    NoNbdModule {
        /// The kernel that would be booted.
        kernel_version: String,
    },
    /// A file that is larger than such a file ever is.
    #[error("{path} has {size_bytes} bytes, more than the {limit_bytes} that are read")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        size_bytes: u64,
        /// The limit for its kind.
        limit_bytes: u64,
    },
    /// The image could not be read, or its structures contradict each other.
    #[error("cannot read the image's file system: {0}")]
    Damaged(String),
}

/// Finds what a device needs to start from `image`.
///
/// Reads a few tens of megabytes; blocks meanwhile, so async callers use a pool thread.
pub fn find_boot_files(image: &Arc<dyn ImageReader>) -> Result<BootFiles, BootFilesError> {
    // The parsers were read, not proven: a panic in one is this image's fault, not the server's.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| search(image)))
        .unwrap_or_else(|_| Err(BootFilesError::Damaged("a parser gave up on its structures".to_owned())))
}

fn search(image: &Arc<dyn ImageReader>) -> Result<BootFiles, BootFilesError> {
    let budget = Budget::new();
    let volumes: Vec<Volume> =
        find_partitions(image).into_iter().map(|partition| Volume::open(image, partition, &budget)).collect();
    let root = find_root(&volumes)?;
    let pair = kernel::choose(root, &volumes)?;
    let args = arguments::find(&root.tree, &pair.options)?;
    let modules = modules::find(&root.tree, &pair.version)?;
    Ok(BootFiles {
        kernel: pair.tree.read(&pair.kernel_path, kernel::KERNEL_LIMIT)?,
        initrd: pair.tree.read(&pair.initrd_path, kernel::INITRD_LIMIT)?,
        kernel_version: pair.version,
        root_spec: root.spec(),
        args,
        modules: modules.files,
        aliases: modules.aliases,
    })
}

/// The partition with the root file system.
pub(crate) fn root_partition(image: &Arc<dyn ImageReader>) -> Result<Partition, BootFilesError> {
    let budget = Budget::new();
    let volumes: Vec<Volume> =
        find_partitions(image).into_iter().map(|partition| Volume::open(image, partition, &budget)).collect();
    Ok(find_root(&volumes)?.partition.clone())
}

/// The files of one partition, for a look at an edit's result.
pub(crate) struct VolumeFiles(Volume);

impl VolumeFiles {
    /// Recognises the file system.
    pub(crate) fn open(image: &Arc<dyn ImageReader>, partition: &Partition) -> Self {
        Self(Volume::open(image, partition.clone(), &Budget::new()))
    }

    /// Whether it is ext2, ext3 or ext4, and can be read.
    pub(crate) fn is_ext4(&self) -> bool {
        self.0.tree.is_ext4()
    }

    /// Whether a path can be found.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.0.tree.exists(&format!("/{path}")).unwrap_or(false)
    }

    /// A file's length in bytes; none where it does not exist.
    pub(crate) fn size_of(&self, path: &str) -> Result<Option<u64>, BootFilesError> {
        Ok(self.0.tree.size_of(path)?)
    }
}

/// A partition and the file system in it.
struct Volume {
    partition: Partition,
    tree: Tree,
}

impl Volume {
    fn open(image: &Arc<dyn ImageReader>, partition: Partition, budget: &Budget) -> Self {
        let window = Window::new(Arc::clone(image), partition.start, partition.len, budget.clone());
        Self { tree: Tree::open(window), partition }
    }

    fn is_root(&self) -> Result<bool, TreeError> {
        let tree = &self.tree;
        Ok(tree.is_ext4()
            && tree.exists("/etc")?
            && (tree.exists("/usr/lib")? || tree.exists("/lib/modules")?))
    }

    fn spec(&self) -> RootSpec {
        RootSpec {
            uuid: self.tree.uuid(),
            part_uuid: self.partition.part_uuid.clone(),
            partition: self.partition.number,
        }
    }

    /// What the partition holds, for a message.
    fn describe(&self) -> String {
        match self.partition.number {
            Some(number) => format!("partition {number} holds {}", self.tree.kind()),
            None => format!("the disk has no partition table and holds {}", self.tree.kind()),
        }
    }
}

/// The volume with the root file system; where several look like one, the one with os-release.
fn find_root(volumes: &[Volume]) -> Result<&Volume, BootFilesError> {
    let mut roots = Vec::new();
    let mut first_error = None;
    for volume in volumes {
        match volume.is_root() {
            Ok(true) => roots.push(volume),
            Ok(false) => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let named = |volume: &&Volume| volume.tree.exists("/etc/os-release").unwrap_or(false);
    if let Some(root) = roots.iter().copied().find(named).or(roots.first().copied()) {
        return Ok(root);
    }
    if let Some(error) = first_error {
        return Err(error.into());
    }
    let found: Vec<String> = volumes.iter().take(8).map(Volume::describe).collect();
    Err(BootFilesError::NoFileSystem { found: found.join(", ") })
}

impl From<TreeError> for BootFilesError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::TooLarge { path, size_bytes, limit_bytes } => {
                Self::TooLarge { path, size_bytes, limit_bytes }
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
