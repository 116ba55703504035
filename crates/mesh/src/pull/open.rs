//! Manifests: the first thing that comes of a version; from then on it can be read.
//!
//! One thread, one version after the other; a version that nobody has, or that fails, is tried
//! again later and holds up no other one. Who waits for a version ([`Shared::open_on_demand`]) opens
//! it on its own thread.

use super::{Coming, FetchError, Shared, State, Wanted};
use crate::engine::{ChunkSet, Event, Hold};
use crate::peers::Peers;
use bytes::Bytes;
use model::{Manifest, Name, Page, PageHash, Root};
use protocol::mesh::{Class, MAX_NAMED, Request, Response};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};
use store::{ReceiveError, Receiving};

/// How long after a failure a version is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether there is anything to do.
const LOOK: Duration = Duration::from_millis(200);
/// How long who needs a version waits until it can be opened: a device that is refused here asks
/// the next server, so less than the patience of a loader, by eye.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// The longest manifest that is taken, in bytes: of a disk of 64 TiB.
const MAX_MANIFEST: usize = 33 << 20;

pub(super) fn run(shared: &Arc<Shared>) {
    let mut failed: BTreeMap<Root, Instant> = BTreeMap::new();
    loop {
        failed.retain(|_, at| at.elapsed() < AGAIN);
        let state = shared.state();
        if state.stopped {
            return;
        }
        let tried = state.wanted.iter().filter(|(root, _)| !failed.contains_key(root));
        let next = tried.map(|(root, _)| *root).find_map(|root| Some((root, to_open(&state, root)?)));
        let Some((root, wanted)) = next else {
            drop(shared.wait(state, LOOK));
            continue;
        };
        if let Err(reason) = shared.open_and_begin(state, root, &wanted) {
            tracing::warn!(%root, reason, "a version cannot be begun");
            failed.insert(root, Instant::now());
        }
    }
}

/// A version that is wanted, not begun, and can be begun now.
fn to_open(state: &State, root: Root) -> Option<Wanted> {
    let wanted = state.wanted.get(&root)?;
    let is_free = !state.coming.contains_key(&root) && !state.opening.contains(&root);
    let can_come = || wanted.store.receiving().contains(&root) || !state.sources(root).is_empty();
    (is_free && !wanted.store.has_whole(&root) && can_come()).then(|| wanted.clone())
}

impl Shared {
    /// See [`super::Puller::open`].
    pub(super) fn open_on_demand(self: &Arc<Self>, root: Root) -> Result<(), FetchError> {
        let began = Instant::now();
        loop {
            let state = self.state();
            let whole = state.wanted.get(&root).is_some_and(|wanted| wanted.store.has_whole(&root));
            if whole || state.coming.contains_key(&root) {
                return Ok(());
            }
            let waited = began.elapsed();
            if waited >= OPEN_PATIENCE {
                return Err(FetchError::NoManifest { waited_s: waited.as_secs() });
            }
            // Not wanted: the records that name it may be read at this moment.
            match to_open(&state, root) {
                Some(wanted) => match self.open_and_begin(state, root, &wanted) {
                    Ok(()) => return Ok(()),
                    Err(reason) => {
                        tracing::warn!(%root, reason, "a version that is waited for cannot be begun");
                        drop(self.wait(self.state(), LOOK));
                    }
                },
                None => drop(self.wait(state, LOOK)),
            }
        }
    }

    /// Opens a version that nobody else opens; `state` is where that was looked up.
    fn open_and_begin(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        root: Root,
        wanted: &Wanted,
    ) -> Result<(), String> {
        state.opening.insert(root);
        drop(state);
        let opened = self.open(root, wanted).map(|receiving| self.begin(receiving, wanted));
        self.state().opening.remove(&root);
        self.changed.notify_all();
        opened
    }

    fn open(&self, root: Root, wanted: &Wanted) -> Result<Arc<Receiving>, String> {
        let options = self.receive_options();
        let text = |error: ReceiveError| error.to_string();
        if let Some(receiving) = wanted.store.resume_receive(&root, options).map_err(text)? {
            return Ok(receiving);
        }
        let peers = self.peers().ok_or("no peer is connected")?;
        let sources = self.state().sources(root);
        let mut reason = "no peer has it".to_owned();
        for peer in sources {
            let fetched = self.manifest(&*peers, &peer, root).and_then(|manifest| {
                let pages = self.pages(&*peers, &peer, &wanted.store.lacking_pages(&manifest))?;
                Ok((manifest, pages))
            });
            match fetched {
                Ok((manifest, pages)) => {
                    return wanted
                        .store
                        .begin_receive(&manifest, &pages, wanted.below, options)
                        .map_err(text);
                }
                Err(error) => reason = format!("{peer}: {error}"),
            }
        }
        Err(reason)
    }

    fn manifest(&self, peers: &dyn Peers, peer: &Name, root: Root) -> Result<Manifest, String> {
        let answer = peers.request(peer, Class::Control, Request::GetManifest { root });
        let answer = answer.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        loop {
            match answer.recv_timeout(self.options.silence).map_err(|error| error.to_string())? {
                Response::Manifest(piece) if bytes.len() + piece.len() <= MAX_MANIFEST => bytes.extend(piece),
                Response::Done => break,
                other => return Err(unexpected(&other)),
            }
        }
        let manifest = Manifest::decode(&bytes).map_err(|error| error.to_string())?;
        if manifest.root() != root {
            self.state().liars.insert((peer.clone(), root), Instant::now());
            self.observer.bad_peer(peer, root, "its manifest has another root");
            return Err("its manifest has another root".into());
        }
        Ok(manifest)
    }

    fn pages(&self, peers: &dyn Peers, peer: &Name, names: &[PageHash]) -> Result<Vec<Page>, String> {
        let mut pages = Vec::new();
        for names in names.chunks(MAX_NAMED) {
            let wanted: HashSet<PageHash> = names.iter().copied().collect();
            let answer = peers.request(peer, Class::Control, Request::GetPages { names: names.to_vec() });
            let answer = answer.map_err(|error| error.to_string())?;
            loop {
                match answer.recv_timeout(self.options.silence).map_err(|error| error.to_string())? {
                    Response::Page { bytes, .. } => pages.push(page(&bytes, &wanted)?),
                    Response::Done => break,
                    other => return Err(unexpected(&other)),
                }
            }
        }
        Ok(pages)
    }

    /// Has a version come: readers may ask for it at once, bulk begins when what lies elsewhere in
    /// the store is copied.
    fn begin(self: &Arc<Self>, receiving: Arc<Receiving>, wanted: &Wanted) {
        let (root, version, priority) = (receiving.root(), receiving.version(), wanted.priority);
        let below = wanted.below.filter(|below| wanted.store.has_whole(below));
        let parent = below.and_then(|below| wanted.store.version(&below).ok());
        let coming = Coming {
            receiving: Arc::clone(&receiving),
            parent,
            priority,
            arrived_bytes: 0,
            bytes_per_s: 0,
            full: false,
            copying: true,
            told_missing: version.missing_count(),
        };
        let missing = ChunkSet::of(version.size().chunk_count(), version.missing());
        let mut state = self.state();
        if !state.wanted.contains_key(&root) {
            return;
        }
        state.coming.insert(root, coming);
        let mut events =
            vec![Event::Hold { root, why: Some(Hold::Copying) }, Event::Wanted { root, missing, priority }];
        events.extend(Self::events_of(&state, root));
        let actions: Vec<_> = events.into_iter().flat_map(|event| self.feed(&mut state, event)).collect();
        drop(state);
        self.perform(actions, None);
        // At once: receivers that know of each other share the work.
        self.shares.part(version).iter().for_each(|have| self.tell(have));
        self.changed.notify_all();
        let shared = Arc::clone(self);
        let body = move || shared.begin_bulk(&receiving);
        if let Err(error) = std::thread::Builder::new().name("mesh-seeds".into()).spawn(body) {
            tracing::error!(%root, %error, "a thread cannot be started; the version waits for the next start");
        }
    }

    /// Copies what seeds have that were not there before; one that copies already does not see them.
    pub(super) fn copy_again(&self, receiving: &Receiving) {
        let root = receiving.root();
        let mut state = self.state();
        let idle = state.coming.get_mut(&root).filter(|coming| !coming.copying);
        let Some(coming) = idle else { return };
        coming.copying = true;
        let actions = self.feed(&mut state, Event::Hold { root, why: Some(Hold::Copying) });
        drop(state);
        self.perform(actions, None);
        self.begin_bulk(receiving);
    }

    fn begin_bulk(&self, receiving: &Receiving) {
        let root = receiving.root();
        let stop = || self.state().stopped;
        if let Err(error) = receiving.copy_seeds(&stop) {
            tracing::warn!(%root, %error, "what other versions here have cannot be copied");
        }
        if let Some(coming) = self.state().coming.get_mut(&root) {
            coming.copying = false;
        }
        self.want_bulk(receiving);
    }

    /// Tells the engine what is still to come.
    pub(super) fn want_bulk(&self, receiving: &Receiving) {
        let root = receiving.root();
        match receiving.wanted() {
            Ok(chunks) => {
                let missing = ChunkSet::of(receiving.version().size().chunk_count(), chunks);
                let mut state = self.state();
                let Some(priority) = state.coming.get(&root).map(|coming| coming.priority) else { return };
                let mut events =
                    vec![Event::Wanted { root, missing, priority }, Event::Hold { root, why: None }];
                events.extend(Self::events_of(&state, root));
                let actions: Vec<_> =
                    events.into_iter().flat_map(|event| self.feed(&mut state, event)).collect();
                drop(state);
                self.perform(actions, None);
            }
            Err(error) => tracing::error!(%root, %error, "what is to come of a version cannot be told"),
        }
        self.changed.notify_all();
    }
}

fn page(bytes: &Bytes, wanted: &HashSet<PageHash>) -> Result<Page, String> {
    let page = Page::decode(bytes).map_err(|error| error.to_string())?;
    match wanted.contains(&page.hash()) {
        true => Ok(page),
        false => Err("a page that was not asked for".into()),
    }
}

fn unexpected(response: &Response) -> String {
    match response {
        Response::NotHere { .. } => "it has nothing of it any more".into(),
        Response::Refused(why) => why.text().to_owned(),
        _ => "an answer that does not belong here".into(),
    }
}
