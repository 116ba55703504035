//! A file system for tests that keeps what was not synced apart from what was.
//!
//! What programs see is kept in a real directory, so that code that reads with the system's own
//! calls sees it too. Beside it stands in memory what the disk has for good. A power loss leaves
//! that, and of everything later any part: of writes any sectors, of changes to directories any
//! that do not come before a lost one in the same directory. What was removed behind this file
//! system's back may come back then.

mod names;
mod node;

use super::{Files, OpenFile};
use names::{Entry, Names};
use node::Node;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// The unit of the disk in bytes that is written whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A small generator of the same numbers for the same seed (xorshift, Marsaglia 2003).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        // The generator stays at zero, and close seeds begin alike: mix them first.
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// True once in `times` on average; never where that is 0.
    pub fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }
}

/// What goes wrong from now on.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The power goes after this many operations: all later ones fail.
    pub power_lasts: Option<u64>,
    /// So many bytes may still be written.
    pub room_bytes: Option<u64>,
    /// One write in this many is short; 0 is none.
    pub short_write_one_in: u64,
    /// One write in this many fails with EIO.
    pub write_error_one_in: u64,
    /// One sync in this many fails, and with it what it should have made durable.
    pub sync_error_one_in: u64,
    /// One sync in this many does nothing and says that it did.
    pub sync_lie_one_in: u64,
}

/// The simulated file system; clones are the same one.
#[derive(Clone, Debug)]
pub struct SimulatedFiles(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    root: PathBuf,
    names: Names,
    nodes: HashMap<usize, Node>,
    faults: Faults,
    numbers: Numbers,
    lies: u64,
}

/// An open file of the simulation.
#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedFiles,
    node: usize,
    real: File,
}

impl SimulatedFiles {
    /// Takes what lies in the directory `root` to be durable.
    pub fn new(root: &Path, seed: u64) -> io::Result<Self> {
        let mut disk = Disk {
            root: root.to_owned(),
            names: Names::default(),
            nodes: HashMap::new(),
            faults: Faults::default(),
            numbers: Numbers::new(seed),
            lies: 0,
        };
        disk.take_in(root, Names::ROOT)?;
        Ok(Self(Arc::new(Mutex::new(disk))))
    }

    /// Changes what goes wrong.
    pub fn set(&self, faults: Faults) {
        self.disk().faults = faults;
    }

    /// Whether the power is gone.
    pub fn is_dead(&self) -> bool {
        self.disk().faults.power_lasts == Some(0)
    }

    /// How many syncs did nothing and said that they did.
    pub fn lies(&self) -> u64 {
        self.disk().lies
    }

    /// Writes what a power loss leaves into the empty directory `to`.
    pub fn lose_power(&self, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let Disk { names, nodes, numbers, .. } = &mut *disk;
        let kept = names.after_power_loss(numbers);
        let directories = kept.directories(to);
        for path in directories.values() {
            fs::create_dir_all(path)?;
        }
        for ((directory, name), entry) in kept.entries() {
            if let (Entry::File(node), Some(path)) = (entry, directories.get(directory)) {
                let content = nodes[node].after_power_loss(numbers);
                node::write_sparse(&path.join(name), &content)?;
            }
        }
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("no thread panics while it holds the simulated disk")
    }

    fn handle(&self, node: usize, real: File) -> Arc<dyn OpenFile> {
        Arc::new(SimulatedFile { disk: self.clone(), node, real })
    }
}

impl Disk {
    /// Reads a directory that is there already.
    fn take_in(&mut self, path: &Path, directory: usize) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let id = self.names.new_id();
            if entry.file_type()?.is_dir() {
                self.names.take_in(directory, entry.file_name(), Entry::Directory(id));
                self.take_in(&entry.path(), id)?;
            } else {
                self.names.take_in(directory, entry.file_name(), Entry::File(id));
                self.nodes.insert(id, Node::durable(fs::read(entry.path())?));
            }
        }
        Ok(())
    }

    /// Counts an operation; fails where the power is gone.
    fn power(&mut self) -> io::Result<()> {
        match &mut self.faults.power_lasts {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).expect("the store stays in its directory")
    }

    /// How much of a write of `len` bytes, not 0, is done.
    fn admit_write(&mut self, node: usize, offset: u64, len: usize) -> io::Result<usize> {
        self.power()?;
        if self.numbers.one_in(self.faults.write_error_one_in) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        let mut len = len;
        if self.numbers.one_in(self.faults.short_write_one_in) {
            // File systems stop at the borders of their blocks.
            let end = (offset + 1 + self.numbers.below(len as u64)) / SECTOR_BYTES as u64;
            len = match (end * SECTOR_BYTES as u64).saturating_sub(offset) {
                0 => len,
                shorter => shorter as usize,
            };
        }
        let node = self.nodes.get_mut(&node).expect("an open file is known");
        let mut endless = u64::MAX;
        match node.take_room(offset, len, self.faults.room_bytes.as_mut().unwrap_or(&mut endless)) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            fits => Ok(fits),
        }
    }

    /// Whether a sync is done, is a lie, or fails.
    fn admit_sync(&mut self) -> io::Result<bool> {
        self.power()?;
        if self.numbers.one_in(self.faults.sync_error_one_in) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        let lie = self.numbers.one_in(self.faults.sync_lie_one_in);
        self.lies += u64::from(lie);
        Ok(!lie)
    }
}

impl Files for SimulatedFiles {
    fn create_file(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let mut disk = self.disk();
        disk.power()?;
        let real = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let id = disk.names.new_id();
        disk.nodes.insert(id, Node::durable(Vec::new()));
        let relative = disk.relative(path).to_owned();
        disk.names.add(&relative, Entry::File(id));
        drop(disk);
        Ok(self.handle(id, real))
    }

    fn open_file(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let mut disk = self.disk();
        disk.power()?;
        let real = OpenOptions::new().read(true).write(true).open(path)?;
        let relative = disk.relative(path).to_owned();
        let Entry::File(id) = disk.names.find(&relative) else { panic!("{path:?} is no file") };
        drop(disk);
        Ok(self.handle(id, real))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.power()?;
        fs::create_dir(path)?;
        let id = disk.names.new_id();
        let relative = disk.relative(path).to_owned();
        disk.names.add(&relative, Entry::Directory(id));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.power()?;
        fs::rename(from, to)?;
        let (from, to) = (disk.relative(from).to_owned(), disk.relative(to).to_owned());
        disk.names.rename(&from, &to);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.power()?;
        fs::hard_link(from, to)?;
        let (from, to) = (disk.relative(from).to_owned(), disk.relative(to).to_owned());
        let entry = disk.names.find(&from);
        disk.names.add(&to, entry);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.power()?;
        fs::remove_file(path)?;
        let relative = disk.relative(path).to_owned();
        disk.names.remove(&relative);
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.power()?;
        fs::remove_dir(path)?;
        let relative = disk.relative(path).to_owned();
        disk.names.remove(&relative);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.admit_sync()? {
            let relative = disk.relative(path).to_owned();
            disk.names.sync(&relative);
        }
        Ok(())
    }
}

impl OpenFile for SimulatedFile {
    fn read_some_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.disk().power()?;
        FileExt::read_at(&self.real, buffer, offset)
    }

    fn write_some_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.disk();
        let len = disk.admit_write(self.node, offset, bytes.len())?;
        self.real.write_all_at(&bytes[..len], offset)?;
        disk.node(self.node).write(offset, &bytes[..len]);
        Ok(len)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.real.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.power()?;
        self.real.set_len(len)?;
        disk.node(self.node).set_len(len);
        Ok(())
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.power()?;
        OpenFile::punch_hole(&self.real, offset, len)?;
        let node = disk.node(self.node);
        node.write(offset, &vec![0; len as usize]);
        node.give_room_back(offset, len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let dead = disk.faults.power_lasts == Some(0);
        match disk.admit_sync() {
            Ok(true) => disk.node(self.node).sync(),
            Ok(false) => {}
            Err(error) => {
                if !dead {
                    let Disk { nodes, numbers, .. } = &mut *disk;
                    nodes.get_mut(&self.node).expect("an open file is known").fail_to_sync(numbers);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn start_writeout(&self, _: u64, _: u64) {}

    fn forget_range(&self, _: u64, _: u64) {}

    fn forget_cached(&self) {
        let mut disk = self.disk.disk();
        if let Some(content) = disk.node(self.node).after_forgetting() {
            let rewritten = self.real.set_len(0).and_then(|()| self.real.write_all_at(&content, 0));
            rewritten.expect("the simulation's own directory can be written");
        }
    }
}

impl Disk {
    fn node(&mut self, id: usize) -> &mut Node {
        self.nodes.get_mut(&id).expect("an open file is known")
    }
}
