//! One version: its layers' files, every page of its manifest, every chunk's bytes.

use super::{Check, CheckError};
use crate::page_pack::PagePack;
use crate::presence::{ChunkState, Presence};
use crate::record::{LayerName, VersionRecord};
use model::manifest::PAGE_CHUNKS;
use model::{CHUNK_SIZE, ChunkHash, ChunkIndex, DiskSize, Page, PageHash, Root};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// The files of one layer.
struct Files {
    name: LayerName,
    data: File,
    presence: Presence,
    pages: PagePack,
}

impl Check<'_> {
    pub(super) fn version(&mut self, root: Root, record: &VersionRecord) -> Result<(), CheckError> {
        self.report.versions += 1;
        let size = record.manifest.size();
        let mut layers = Vec::new();
        for name in &record.layers {
            let words = size.chunk_count().div_ceil(64) as usize;
            self.seen.entry(name.clone()).or_insert_with(|| vec![0; words]);
            match self.open_layer(name, size) {
                Ok(files) => layers.push(files),
                Err(reason) => {
                    self.report.error(format!("version {root}: layer {}: {reason}", name.as_str()));
                    return Ok(());
                }
            }
        }
        let mut missing = 0;
        for (number, name) in (0..).zip(record.manifest.pages()) {
            match find_page(&layers, *name) {
                Ok(page) => missing += self.page(root, size, number, &page, &layers)?,
                Err(reason) => self.report.error(format!("version {root}: manifest page {number}: {reason}")),
            }
        }
        if self.half.contains(&root) {
            self.report.warn(format!("version {root} is here in part: {missing} chunks are still to come"));
        }
        Ok(())
    }

    fn open_layer(&self, name: &LayerName, size: DiskSize) -> Result<Files, String> {
        let directory = self.path.join("layers").join(name.as_str());
        let open = |file: &str| File::open(directory.join(file)).map_err(|error| format!("{file}: {error}"));
        let data = open("data")?;
        let len = data.metadata().map_err(|error| error.to_string())?.len();
        if len != size.bytes() {
            return Err(format!("its data has {len} bytes, the disk has {}", size.bytes()));
        }
        let presence = fs::read(directory.join("present")).map_err(|error| format!("present: {error}"))?;
        let presence = match self.growing.contains(name) {
            false => Presence::decode(&presence, size).map_err(|error| error.to_string())?,
            // The server makes torn blocks again from the bytes when it opens the store.
            true => Presence::decode_torn(&presence, size).map_err(|error| error.to_string())?.0,
        };
        let pages = PagePack::open(open("pages")?).map_err(|error| error.to_string())?;
        Ok(Files { name: name.clone(), data, presence, pages })
    }

    /// Every chunk of a page: what the layers say of it, and its bytes where no version before had
    /// them. Answers how many chunks of a version that is here in part are still to come.
    fn page(
        &mut self,
        root: Root,
        size: DiskSize,
        number: u32,
        page: &Page,
        layers: &[Files],
    ) -> Result<u64, CheckError> {
        let mut buffer = vec![0; CHUNK_SIZE as usize];
        let (half, mut missing) = (self.half.contains(&root), 0);
        let first = number * PAGE_CHUNKS;
        for chunk in (first..size.chunk_count().min(first + PAGE_CHUNKS)).map(ChunkIndex) {
            if self.observer.cancelled() {
                return Err(CheckError::Cancelled);
            }
            let hash = page.get((chunk.0 - first) as usize);
            let top = layers.iter().rev().find(|layer| layer.presence.get(chunk) != ChunkState::Absent);
            let to_come = top.is_none_or(|layer| layer.presence.get(chunk) == ChunkState::Wanted);
            let wrong = match top {
                _ if to_come && half => {
                    missing += 1;
                    None
                }
                Some(layer) if to_come => {
                    Some(format!("it has not come to layer {} yet", layer.name.as_str()))
                }
                None => Some("no layer has it".to_owned()),
                Some(layer) if layer.presence.get(chunk) == ChunkState::Zero => {
                    (hash != ChunkHash::ZERO).then(|| "the layer says zero, the manifest does not".to_owned())
                }
                Some(layer) if self.is_new(&layer.name, chunk) => {
                    self.report.bytes += u64::from(size.chunk_len(chunk));
                    wrong_bytes(layer, size, chunk, hash, &mut buffer)
                }
                Some(_) => None,
            };
            if let Some(reason) = wrong {
                self.report.error(format!("version {root}: chunk {}: {reason}", chunk.0));
            }
        }
        self.observer.progress(self.report.bytes);
        Ok(missing)
    }

    /// Whether the bytes of this chunk were not looked at before.
    fn is_new(&mut self, layer: &LayerName, chunk: ChunkIndex) -> bool {
        let words = self.seen.get_mut(layer).expect("every layer of the version was entered");
        // Two versions of different sizes never share a layer; a damaged store may say so.
        let Some(word) = words.get_mut(chunk.0 as usize / 64) else { return true };
        let bit = 1 << (chunk.0 % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

fn wrong_bytes(
    layer: &Files,
    size: DiskSize,
    chunk: ChunkIndex,
    hash: ChunkHash,
    buffer: &mut [u8],
) -> Option<String> {
    let len = size.chunk_len(chunk) as usize;
    buffer[len..].fill(0);
    let name = layer.name.as_str();
    match layer.data.read_exact_at(&mut buffer[..len], chunk.offset()) {
        Err(error) => Some(format!("cannot be read from layer {name}: {error}")),
        Ok(()) => match ChunkHash::of(buffer) {
            found if found == hash => None,
            _ => Some(format!("its bytes in layer {name} are not what the manifest says")),
        },
    }
}

/// The page of this name, from the pack of any of the layers.
fn find_page(layers: &[Files], name: PageHash) -> Result<Page, String> {
    for layer in layers {
        match layer.pages.read(name) {
            Ok(Some(page)) => return Ok(page),
            Ok(None) => {}
            Err(error) => return Err(format!("layer {}: {error}", layer.name.as_str())),
        }
    }
    let zero = Page::zero();
    if zero.hash() == name { Ok(zero) } else { Err("no layer has it".into()) }
}
