//! Begins a reception: what is here by inheritance, what has to come, and a layer for it.
//!
//! The layer is staged and published like an import's: its files, then its directory, then the
//! record under `receiving/`; a crash leaves either a version that goes on or nothing.

use super::growing::Growing;
use super::{ReceiveError, ReceiveOptions, Receiving};
use crate::durable;
use crate::files::Files;
use crate::layer::{DATA_FILE, PAGES_FILE, PRESENCE_FILE};
use crate::layout::{Claim, Found, io_error};
use crate::page_pack::{PagePack, PagePackWriter};
use crate::presence::{ChunkState, Presence};
use crate::record::{LayerName, MAX_LAYERS, VersionRecord};
use crate::store::{State, Store};
use crate::version::StoredVersion;
use model::manifest::PAGE_CHUNKS;
use model::{ChunkHash, ChunkIndex, DiskSize, Manifest, Page, PageHash, Root};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

impl Store {
    /// The versions that are here in part, in the order of their roots.
    pub fn receiving(&self) -> Vec<Root> {
        self.having(Claim::Receiving)
    }

    /// Whether every chunk of the version is here; false where the store does not know it.
    pub fn has_whole(&self, root: &Root) -> bool {
        let state = self.state();
        state.versions.get(root).is_some_and(|found| found.claim != Claim::Receiving && found.record.is_ok())
    }

    /// The pages that have to be fetched before `manifest` can be received: those that no version
    /// here has, each once.
    pub fn lacking_pages(&self, manifest: &Manifest) -> Vec<PageHash> {
        let mut lacking: Vec<PageHash> = Vec::new();
        let mut seen = HashSet::from([Page::zero().hash()]);
        lacking.extend(manifest.pages().iter().filter(|page| seen.insert(**page)));
        if !lacking.is_empty() {
            let packs = self.page_packs(&self.state());
            lacking.retain(|page| !packs.iter().any(|pack| pack.has(*page)));
        }
        lacking
    }

    /// Those of the manifest pages of these names that are here, whatever version they are of.
    pub fn pages_named(&self, names: &[PageHash]) -> Vec<(PageHash, Page)> {
        let packs = self.page_packs(&self.state());
        let found = names.iter().map(|name| (*name, from_packs(&packs, *name)));
        found.filter_map(|(name, page)| Some((name, page.ok()?))).collect()
    }

    /// Begins to receive a version, or goes on where that was begun before; answers at once what
    /// is being received already.
    ///
    /// `pages` are those that [`Store::lacking_pages`] named, in any order; others are ignored.
    /// `below` is a version that is here, or is being received, and has much in common with it.
    pub fn begin_receive(
        &self,
        manifest: &Manifest,
        pages: &[Page],
        below: Option<Root>,
        options: ReceiveOptions,
    ) -> Result<Arc<Receiving>, ReceiveError> {
        let root = manifest.root();
        if let Some(receiving) = self.resume_receive(&root, options)? {
            return Ok(receiving);
        }
        let below = below.and_then(|below| self.version(&below).ok());
        let below =
            below.filter(|below| below.size() == manifest.size() && below.layers().len() < MAX_LAYERS);
        self.check_room_for(manifest, options)?;
        let mut state = self.state();
        let plan = Plan::new(self, &state, manifest, pages, below.as_deref())?;
        if state.versions.get(&root).is_none_or(|found| found.record.is_err()) {
            self.publish_half(&mut state, plan, manifest, below.as_deref())?;
        }
        drop(state);
        self.resume_receive(&root, options)?.ok_or(ReceiveError::Gone(root))
    }

    /// Goes on with a version that is being received, or is here; none where it is not here at all,
    /// or cannot be opened.
    pub fn resume_receive(
        &self,
        root: &Root,
        options: ReceiveOptions,
    ) -> Result<Option<Arc<Receiving>>, ReceiveError> {
        // One that is damaged is received as if it were not here.
        if self.state().versions.get(root).is_none_or(|found| found.record.is_err()) {
            return Ok(None);
        }
        let version = self.version(root)?;
        let mut state = self.state();
        state.receiving.retain(|_, receiving| receiving.strong_count() > 0);
        if let Some(receiving) = state.receiving.get(root).and_then(Weak::upgrade) {
            return Ok(Some(receiving));
        }
        let receiving = Arc::new(Receiving::new(self, version, options));
        state.receiving.insert(*root, Arc::downgrade(&receiving));
        Ok(Some(receiving))
    }

    /// The manifest and its pages must fit beside the reserve; chunks look for themselves.
    fn check_room_for(&self, manifest: &Manifest, options: ReceiveOptions) -> Result<(), ReceiveError> {
        let (_, free) =
            crate::store::file_system_space(self.path()).map_err(io_error("cannot measure the store"))?;
        let needed = manifest.pages().len() as u64 * model::manifest::PAGE_BYTES as u64;
        match free < options.reserve_bytes + needed {
            true => Err(ReceiveError::NoSpace { free, reserve: options.reserve_bytes }),
            false => Ok(()),
        }
    }

    /// The packs of all layers here that can be read.
    fn page_packs(&self, state: &State) -> Vec<PagePack> {
        let records = state.versions.values().filter_map(|found| found.record.as_ref().ok());
        let layers: BTreeSet<&LayerName> = records.flat_map(|record| &record.layers).collect();
        let open = |name: &LayerName| File::open(self.layout().layer(name).join(PAGES_FILE)).ok();
        layers.into_iter().filter_map(open).filter_map(|file| PagePack::open(file).ok()).collect()
    }

    /// Makes the layer and the record durable, and known.
    fn publish_half(
        &self,
        state: &mut State,
        plan: Plan,
        manifest: &Manifest,
        below: Option<&StoredVersion>,
    ) -> Result<(), ReceiveError> {
        let (name, root, size) = (self.new_layer_name(), manifest.root(), manifest.size());
        let staged = self.layout().incoming().join(name.as_str());
        let mut layers: Vec<LayerName> = Vec::new();
        layers.extend(below.into_iter().flat_map(|below| below.layers()).map(|layer| layer.name().clone()));
        layers.push(name.clone());
        let record = VersionRecord { layers, manifest: manifest.clone() };
        let record_path = staged.with_extension("version");
        let target = self.layout().layer(&name);
        let publish = || {
            stage(self.files(), &staged, size, &plan)?;
            durable::create_file(self.files(), &record_path, &record.encode())?;
            durable::publish(self.files(), &staged, &target)?;
            durable::publish(self.files(), &record_path, &self.layout().record(Claim::Receiving, &root))?;
            Growing::open(self.files(), &target, &name, size, plan.presence.clone())
        };
        let growing = publish().map_err(|error| {
            remove(self.files(), &staged, &record_path);
            match error.kind() {
                io::ErrorKind::StorageFull => ReceiveError::NoSpace { free: 0, reserve: 0 },
                _ => io_error(format!("cannot begin to receive version {root}"))(error).into(),
            }
        })?;
        state.growing.insert(name, Arc::new(growing));
        let damaged = state.versions.insert(root, Found { claim: Claim::Receiving, record: Ok(record) });
        if let Some(Found { claim, .. }) = damaged {
            // Where this fails, or is lost by a crash, the next start finds the damaged one again.
            state.forget_open(&root);
            let _ = self.files().remove_file(&self.layout().record(claim, &root));
        }
        Ok(())
    }
}

/// What the new layer begins with.
struct Plan {
    presence: Presence,
    pack: Vec<u8>,
}

impl Plan {
    fn new(
        store: &Store,
        state: &State,
        manifest: &Manifest,
        pages: &[Page],
        below: Option<&StoredVersion>,
    ) -> Result<Self, ReceiveError> {
        let mut given: HashMap<PageHash, &Page> = pages.iter().map(|page| (page.hash(), page)).collect();
        let zero = Page::zero();
        given.insert(zero.hash(), &zero);
        let packs = store.page_packs(state);
        let mut presence = Presence::absent(manifest.size());
        let mut pack = PagePackWriter::new(Vec::new());
        for (number, name) in manifest.pages().iter().enumerate() {
            if below.is_some_and(|below| below.manifest().pages()[number] == *name) {
                continue;
            }
            let page = match given.get(name) {
                Some(page) => (*page).clone(),
                None => from_packs(&packs, *name)?,
            };
            let inherited = below.map(|below| below.page(number, ChunkIndex(0))).transpose()?;
            classify(&mut presence, manifest.size(), number, &page, inherited.as_deref());
            let known =
                below.is_some_and(|below| below.layers().iter().any(|layer| layer.pages().has(*name)));
            if !known {
                pack.add(&page).map_err(io_error("writing to memory failed")).map_err(ReceiveError::Store)?;
            }
        }
        let pack = pack.finish().map_err(io_error("writing to memory failed"))?;
        Ok(Self { presence, pack })
    }
}

fn from_packs(packs: &[PagePack], name: PageHash) -> Result<Page, ReceiveError> {
    let found = packs.iter().find_map(|pack| pack.read(name).ok().flatten());
    found.ok_or(ReceiveError::PageMissing(name))
}

/// Says of each chunk of a page that it is zero, inherited, or to come.
fn classify(presence: &mut Presence, size: DiskSize, number: usize, page: &Page, inherited: Option<&Page>) {
    let first = number as u32 * PAGE_CHUNKS;
    for (place, chunk) in (first..size.chunk_count().min(first + PAGE_CHUNKS)).map(ChunkIndex).enumerate() {
        let hash = page.get(place);
        if inherited.is_some_and(|below| below.get(place) == hash) {
            continue;
        }
        let state = if hash == ChunkHash::ZERO { ChunkState::Zero } else { ChunkState::Wanted };
        presence.set(chunk, state);
    }
}

/// Writes the files of the layer.
fn stage(files: &dyn Files, path: &Path, size: DiskSize, plan: &Plan) -> io::Result<()> {
    files.create_directory(path)?;
    let data = files.create_file(&path.join(DATA_FILE))?;
    data.set_len(size.bytes())?;
    data.sync()?;
    durable::create_file(files, &path.join(PAGES_FILE), &plan.pack)?;
    durable::create_file(files, &path.join(PRESENCE_FILE), &plan.presence.encode())?;
    files.sync_directory(path)
}

/// Removes what was staged and not published.
fn remove(files: &dyn Files, staged: &Path, record: &Path) {
    for file in [DATA_FILE, PAGES_FILE, PRESENCE_FILE] {
        let _ = files.remove_file(&staged.join(file));
    }
    let _ = files.remove_directory(staged);
    let _ = files.remove_file(record);
}
