//! The initrd that a device gets: the image's own, unmodified, and a small cpio of ours after it.
//!
//! The kernel unpacks concatenated archives one over the other (Documentation/driver-api/
//! early-userspace/buffer-format.rst), so our files join the stock initramfs, whatever built it
//! (initramfs-tools, dracut) and however it is compressed. Ours is a plain newc archive:
//!
//! | path | what |
//! |---|---|
//! | `/headwater/init` | the agent, mode 0755, run as PID 1 by `rdinit=/headwater/init` |
//! | `/headwater/modules/load` | a line `NAME FILE DEPENDS` for each module in load order; FILE lies beside it, DEPENDS is `-` or names joined by commas |
//! | `/headwater/modules/FILE` | the modules as they were in the image, compressed or not |
//! | `/headwater/modules/alias` | `modules.alias` lines (`alias PATTERN NAME`) for these modules |
//!
//! An uncompressed archive must begin at a multiple of four bytes in the whole; zeros in between
//! are skipped. At least four zeros are put there: the lz4 unpacker reads a block length after
//! the last block, and only zero tells it that it is done.

use bytes::Bytes;
use cpio::newc;
use image::ModuleFile;
use std::io::{self, Write};

/// What `rdinit=` must name for the agent to be PID 1.
pub const AGENT_PATH: &str = "/headwater/init";

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const PLAIN: u32 = 0o100_644;
const ALIGNMENT: usize = 4;

/// An initrd in pieces that are shared by all who download it.
#[derive(Clone, Debug)]
pub struct DeviceInitrd {
    stock: Bytes,
    padding: Bytes,
    appendix: Bytes,
}

impl DeviceInitrd {
    /// Puts `appendix` (from [`appendix`]) after the image's stock initrd.
    pub fn new(stock: Bytes, appendix: Bytes) -> Self {
        let to_boundary = stock.len().next_multiple_of(ALIGNMENT) - stock.len();
        let padding = Bytes::from_static(&[0; 2 * ALIGNMENT]).slice(..ALIGNMENT + to_boundary);
        Self { stock, padding, appendix }
    }

    /// The pieces in the order in which they are sent; cloning them copies no bytes.
    pub fn parts(&self) -> [Bytes; 3] {
        [self.stock.clone(), self.padding.clone(), self.appendix.clone()]
    }

    /// The length of all pieces together in bytes.
    pub fn len_bytes(&self) -> u64 {
        (self.stock.len() + self.padding.len() + self.appendix.len()) as u64
    }
}

/// Builds our archive from the agent's binary and the modules of the kernel that will run it.
///
/// The same input gives the same bytes, so that servers can compare what they serve.
///
/// # Errors
/// A file of 4 GiB or more, which the format cannot hold.
pub fn appendix(agent: &[u8], modules: &[ModuleFile], aliases: &str) -> io::Result<Bytes> {
    let mut archive = Archive::default();
    archive.add("headwater", DIRECTORY, &[])?;
    archive.add("headwater/init", EXECUTABLE, agent)?;
    archive.add("headwater/modules", DIRECTORY, &[])?;
    archive.add("headwater/modules/load", PLAIN, load_list(modules).as_bytes())?;
    archive.add("headwater/modules/alias", PLAIN, aliases.as_bytes())?;
    for module in modules {
        let path = format!("headwater/modules/{}", file_name(module));
        archive.add(&path, PLAIN, &module.bytes)?;
    }
    archive.finish()
}

fn load_list(modules: &[ModuleFile]) -> String {
    let mut list = String::new();
    for module in modules {
        let depends = if module.depends.is_empty() { "-".to_owned() } else { module.depends.join(",") };
        list.push_str(&format!("{} {} {depends}\n", module.name, file_name(module)));
    }
    list
}

fn file_name(module: &ModuleFile) -> &str {
    module.path.rsplit('/').next().unwrap_or(&module.path)
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "larger than 4 GiB"))?;
        self.entries += 1;
        // Inode numbers must differ: the kernel takes equal ones for hard links.
        let entry = newc::Builder::new(name).ino(self.entries).mode(mode).nlink(1);
        let mut writer = entry.write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(mut self) -> io::Result<Bytes> {
        newc::trailer(&mut self.bytes)?;
        Ok(self.bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    fn modules() -> Vec<ModuleFile> {
        let module = |name: &str, path: &str, depends: &[&str]| ModuleFile {
            name: name.to_owned(),
            path: path.to_owned(),
            bytes: name.as_bytes().to_vec(),
            depends: depends.iter().map(|name| (*name).to_owned()).collect(),
        };
        vec![
            module("nbd", "kernel/drivers/block/nbd.ko", &[]),
            module("failover", "kernel/net/core/failover.ko.xz", &[]),
            module("virtio_net", "kernel/drivers/net/virtio_net.ko", &["failover", "virtio"]),
        ]
    }

    fn unpack(archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut rest = archive;
        let mut files = BTreeMap::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return files;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            files.insert(name, (mode, content));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn the_archive_holds_what_the_agent_reads() {
        let archive = appendix(b"agent", &modules(), "alias pci:* nbd\n").unwrap();
        let files = unpack(&archive);
        assert_eq!(files["headwater/init"], (EXECUTABLE, b"agent".to_vec()));
        assert_eq!(files["headwater/modules"].0, DIRECTORY);
        assert_eq!(files["headwater/modules/failover.ko.xz"].1, b"failover");
        assert_eq!(files["headwater/modules/alias"].1, b"alias pci:* nbd\n");
        let load = String::from_utf8(files["headwater/modules/load"].1.clone()).unwrap();
        assert_eq!(
            load,
            "nbd nbd.ko -\nfailover failover.ko.xz -\nvirtio_net virtio_net.ko failover,virtio\n"
        );
    }

    #[test]
    fn the_stock_initrd_is_untouched_and_ours_begins_at_a_multiple_of_four() {
        for len in 0..9 {
            let stock = Bytes::from(vec![7; len]);
            let initrd = DeviceInitrd::new(stock.clone(), Bytes::from_static(b"070701"));
            let [first, padding, _] = initrd.parts();
            assert_eq!(first, stock);
            assert!((4..8).contains(&padding.len()));
            assert_eq!((first.len() + padding.len()) % 4, 0);
            assert_eq!(initrd.len_bytes(), (len + padding.len() + 6) as u64);
        }
    }
}
