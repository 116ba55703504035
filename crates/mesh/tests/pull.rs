//! Three servers in one process: what one has, all get, whoever lies, dies or is slow meanwhile.

use headwater_mesh::{
    Backlog, FetchError, PeerDown, PeerHandler, Peers, Policy, Priority, PullObserver, PullOptions, Puller,
    Reason, Slot, Wanted,
};
use image::ImageReader;
use model::{CHUNK_SIZE, ChunkIndex, Name, Root};
use protocol::mesh::{Class, Have, Request, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use store::{ImportOptions, Place, Quiet, Store};

/// A network without sockets.
#[derive(Default)]
struct Net {
    handlers: Mutex<BTreeMap<Name, Arc<dyn PeerHandler>>>,
    cut: Mutex<BTreeSet<Name>>,
    liars: Mutex<BTreeSet<Name>>,
    /// Chunks sent by a server.
    sent: Mutex<BTreeMap<Name, u64>>,
    /// A server is cut off after so many chunks.
    dies_after: Mutex<BTreeMap<Name, u64>>,
}

/// One server's end of it.
struct End {
    net: Arc<Net>,
    me: Name,
}

impl Net {
    fn join(self: &Arc<Self>, me: &Name, handler: Arc<dyn PeerHandler>) -> Arc<End> {
        let mut handlers = self.handlers.lock().unwrap();
        for (peer, other) in handlers.iter() {
            other.possession().iter().for_each(|have| handler.heard(peer, have));
            handler.possession().iter().for_each(|have| other.heard(me, have));
        }
        handlers.insert(me.clone(), handler);
        Arc::new(End { net: Arc::clone(self), me: me.clone() })
    }

    fn cut(&self, who: &Name) {
        self.cut.lock().unwrap().insert(who.clone());
        for (_, other) in self.handlers.lock().unwrap().iter().filter(|(name, _)| *name != who) {
            other.lost(who);
        }
    }

    fn leave(&self, who: &Name) {
        self.handlers.lock().unwrap().remove(who);
        self.cut(who);
        self.cut.lock().unwrap().remove(who);
    }

    fn sent(&self, who: &Name) -> u64 {
        self.sent.lock().unwrap().get(who).copied().unwrap_or(0)
    }

    /// Counts a chunk; false where the server has died.
    fn sends(&self, who: &Name) -> bool {
        let sent = {
            let mut sent = self.sent.lock().unwrap();
            let sent = sent.entry(who.clone()).or_default();
            *sent += 1;
            *sent
        };
        self.dies_after.lock().unwrap().get(who).is_none_or(|limit| sent <= *limit)
    }
}

impl Peers for End {
    fn connected(&self) -> Vec<Name> {
        let cut = self.net.cut.lock().unwrap();
        let all = self.net.handlers.lock().unwrap();
        all.keys().filter(|name| **name != self.me && !cut.contains(*name)).cloned().collect()
    }

    fn request(&self, peer: &Name, _: Class, request: Request) -> Result<Receiver<Response>, PeerDown> {
        if !self.connected().contains(peer) {
            return Err(PeerDown);
        }
        let handler = Arc::clone(&self.net.handlers.lock().unwrap()[peer]);
        let (sender, receiver) = channel();
        let (net, peer) = (Arc::clone(&self.net), peer.clone());
        std::thread::spawn(move || {
            handler.answer(&request, &mut |response| {
                let response = match response {
                    Response::Chunk { index, encoding, bytes } => {
                        if !net.sends(&peer) {
                            return false;
                        }
                        let mut bytes = bytes.to_vec();
                        bytes[7] ^= u8::from(net.liars.lock().unwrap().contains(&peer));
                        Response::Chunk { index, encoding, bytes: bytes.into() }
                    }
                    other => other,
                };
                sender.send(response).is_ok()
            });
        });
        Ok(receiver)
    }

    fn tell(&self, have: &Have) {
        if self.net.cut.lock().unwrap().contains(&self.me) {
            return;
        }
        let connected = self.connected();
        let handlers = self.net.handlers.lock().unwrap().clone();
        connected.iter().for_each(|peer| handlers[peer].heard(&self.me, have));
    }
}

/// What an observer heard.
#[derive(Default)]
struct Heard {
    complete: Mutex<BTreeSet<Root>>,
    bad: Mutex<Vec<Name>>,
    changed: Condvar,
}

impl PullObserver for Heard {
    fn completed(&self, root: Root) {
        self.complete.lock().unwrap().insert(root);
        self.changed.notify_all();
    }

    fn bad_peer(&self, peer: &Name, _: Root, _: &str) {
        self.bad.lock().unwrap().push(peer.clone());
    }

    fn failing(&self, _: &Name, _: Root, _: u32) {}

    fn no_room(&self, _: Root) {}
}

impl Heard {
    fn wait_for(&self, root: Root) {
        let complete = self.complete.lock().unwrap();
        let waited =
            self.changed.wait_timeout_while(complete, Duration::from_secs(60), |c| !c.contains(&root));
        assert!(waited.unwrap().0.contains(&root), "it is never complete");
    }
}

struct Server {
    store: Arc<Store>,
    heard: Arc<Heard>,
    puller: Puller,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn options() -> PullOptions {
    let (patience, silence) = (Duration::from_secs(30), Duration::from_secs(5));
    PullOptions { patience, silence, reserve_bytes: 0, bulk_chunks: 8 }
}

fn server(net: &Arc<Net>, directory: &Path, me: &str) -> Server {
    let store = Arc::new(Store::open(&directory.join(me)).unwrap());
    let heard = Arc::new(Heard::default());
    let observer = Arc::clone(&heard) as Arc<dyn PullObserver>;
    let puller = Puller::start(name(me), vec![Arc::clone(&store)], options(), observer).unwrap();
    puller.connect(net.join(&name(me), puller.handler()));
    Server { store, heard, puller }
}

impl Server {
    fn want(&self, root: Root, below: Option<Root>) {
        let store = Arc::clone(&self.store);
        self.puller.want(BTreeMap::from([(root, Wanted { store, below, priority: Priority::Bulk })]));
    }

    fn import(&self, bytes: &[u8]) -> Root {
        let options = ImportOptions { reserve_bytes: 0, ..ImportOptions::default() };
        let mut stream = bytes;
        let root = self.store.import_stream(&mut stream, None, &options, &Quiet).unwrap().root;
        self.store.claim(&root).unwrap();
        root
    }

    fn read(&self, root: Root) -> Vec<u8> {
        let version = self.store.version(&root).unwrap();
        let mut bytes = vec![0; version.size().bytes() as usize];
        version.read_at(0, &mut bytes).unwrap();
        bytes
    }
}

fn image(chunks: u32, seed: u32) -> Vec<u8> {
    let word = |at: u32| (at ^ seed.wrapping_mul(77_777)).wrapping_mul(2_654_435_761);
    (0..chunks * CHUNK_SIZE / 4).flat_map(|at| word(at).to_le_bytes()).collect()
}

#[test]
fn what_one_has_all_get_and_the_first_sends_little_more_than_once() {
    let directory = tempfile::tempdir().unwrap();
    let net = Arc::new(Net::default());
    let [a, b, c] = ["pvs01", "pvs02", "pvs03"].map(|me| server(&net, directory.path(), me));
    let bytes = image(400, 1);
    let root = a.import(&bytes);
    b.want(root, None);
    c.want(root, None);
    b.heard.wait_for(root);
    c.heard.wait_for(root);
    assert_eq!((b.read(root) == bytes, c.read(root) == bytes), (true, true));
    assert_eq!(b.store.unclaimed(), [root]);
    assert!(b.puller.backlog().is_empty());
    let all: u64 = ["pvs01", "pvs02", "pvs03"].iter().map(|me| net.sent(&name(me))).sum();
    assert!(all < 900, "hardly anything comes twice: {all} chunks for twice 400");
}

#[test]
fn of_a_newer_version_only_the_changes_travel() {
    let directory = tempfile::tempdir().unwrap();
    let net = Arc::new(Net::default());
    let [a, b] = ["pvs01", "pvs02"].map(|me| server(&net, directory.path(), me));
    let mut bytes = image(100, 1);
    let old = a.import(&bytes);
    b.import(&bytes);
    bytes[3_000_000] ^= 1;
    let (from, to) = bytes.split_at_mut(CHUNK_SIZE as usize * 50);
    to[..CHUNK_SIZE as usize].copy_from_slice(&from[..CHUNK_SIZE as usize]);
    let root = a.import(&bytes);
    b.want(root, Some(old));
    b.heard.wait_for(root);
    assert_eq!(net.sent(&name("pvs01")), 1, "one chunk is new, one lies elsewhere");
    assert!(b.read(root) == bytes);
}

#[test]
fn a_device_reads_at_once_what_is_not_here() {
    let directory = tempfile::tempdir().unwrap();
    let net = Arc::new(Net::default());
    let [a, b] = ["pvs01", "pvs02"].map(|me| server(&net, directory.path(), me));
    let bytes = image(300, 1);
    let root = a.import(&bytes);
    b.want(root, None);
    b.puller.fetch(root, &[ChunkIndex(299), ChunkIndex(7)]).unwrap();
    let version = b.store.version(&root).unwrap();
    assert!(version.is_readable(ChunkIndex(299)));
    b.puller.fetch(root, &[ChunkIndex(7)]).unwrap();
    let unknown = b.puller.fetch(Root::from_bytes([9; 32]), &[ChunkIndex(0)]);
    assert!(matches!(unknown, Err(FetchError::Failed(_))));
    b.heard.wait_for(root);
    b.puller.fetch(root, &[ChunkIndex(7)]).unwrap();
    assert!(b.read(root) == bytes);
}

#[test]
fn a_lying_peer_is_reported_and_left_and_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let net = Arc::new(Net::default());
    let [a, b, c] = ["pvs01", "pvs02", "pvs03"].map(|me| server(&net, directory.path(), me));
    let bytes = image(200, 1);
    let root = a.import(&bytes);
    assert_eq!(b.import(&bytes), root);
    net.liars.lock().unwrap().insert(name("pvs01"));
    c.want(root, None);
    c.heard.wait_for(root);
    assert!(c.read(root) == bytes);
    let bad = c.heard.bad.lock().unwrap();
    assert!(!bad.is_empty() && bad.iter().all(|peer| *peer == name("pvs01")), "{bad:?}");
}

#[test]
fn when_the_only_source_dies_it_waits_and_goes_on_with_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let net = Arc::new(Net::default());
    let a = server(&net, directory.path(), "pvs01");
    let bytes = image(300, 1);
    let root = a.import(&bytes);
    net.dies_after.lock().unwrap().insert(name("pvs01"), 120);
    let before = {
        let b = server(&net, directory.path(), "pvs02");
        b.want(root, None);
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while net.sent(&name("pvs01")) <= 120 {
            assert!(std::time::Instant::now() < until, "it never begins");
            std::thread::yield_now();
        }
        net.cut(&name("pvs01"));
        let left = loop {
            let Backlog { reason, missing_chunks, .. } = b.puller.backlog().remove(0);
            if reason == Some(Reason::PeerDown) && missing_chunks < Some(300) {
                break missing_chunks.unwrap();
            }
            assert!(std::time::Instant::now() < until, "nobody notices");
            std::thread::yield_now();
        };
        net.leave(&name("pvs02"));
        left
    };
    assert!((180..300).contains(&before), "{before} are missing");
    net.cut.lock().unwrap().clear();
    net.dies_after.lock().unwrap().clear();
    net.sent.lock().unwrap().clear();
    // The threads of the server that is gone let go of the store one after the other.
    let b = loop {
        if Store::open(&directory.path().join("pvs02")).is_ok() {
            break server(&net, directory.path(), "pvs02");
        }
        std::thread::yield_now();
    };
    let missing = b.store.version(&root).unwrap().missing_count();
    b.want(root, None);
    b.heard.wait_for(root);
    assert_eq!(net.sent(&name("pvs01")), u64::from(missing), "what is here is not fetched again");
    // What its threads had in their hands when it stopped may be fetched again.
    assert!(missing <= 236 && b.read(root) == bytes, "{missing} were missing");
}

#[test]
fn the_boot_profile_comes_first_and_a_pause_leaves_devices_their_reads() {
    let directory = tempfile::tempdir().unwrap();
    let net = Arc::new(Net::default());
    let [a, b] = ["pvs01", "pvs02"].map(|me| server(&net, directory.path(), me));
    let bytes = image(300, 1);
    let root = a.import(&bytes);
    b.puller.allow(Policy { paused: true, ..Policy::default() });
    b.want(root, None);
    b.puller.fetch(root, &[ChunkIndex(5)]).unwrap();
    b.puller.profile(root, vec![ChunkIndex(290), ChunkIndex(17)]);
    wait_until(|| b.puller.backlog()[0].reason == Some(Reason::Paused));
    assert_eq!(net.sent(&name("pvs01")), 1, "only what a device waited for");
    // One request's worth of the profile and no more.
    let limits = BTreeMap::from([((Some(name("pvs01")), Priority::Bulk), 0)]);
    b.puller.allow(Policy { limits, ..Policy::default() });
    let version = b.store.version(&root).unwrap();
    wait_until(|| version.missing_count() == 297);
    assert!([5, 17, 290].iter().all(|chunk| version.place(ChunkIndex(*chunk)) == Place::Layer(0)));
    wait_until(|| b.puller.backlog()[0].reason == Some(Reason::Limit));
    b.puller.allow(Policy::default());
    b.heard.wait_for(root);
    assert!(b.read(root) == bytes);
}

#[test]
fn a_closed_schedule_is_kept_but_for_what_an_admin_wants_now() {
    let directory = tempfile::tempdir().unwrap();
    let net = Arc::new(Net::default());
    let [a, b] = ["pvs01", "pvs02"].map(|me| server(&net, directory.path(), me));
    let bytes = image(100, 1);
    let root = a.import(&bytes);
    let closed = Policy { slot: Slot::Closed, ..Policy::default() };
    b.puller.allow(closed.clone());
    b.want(root, None);
    wait_until(|| b.puller.backlog()[0].reason == Some(Reason::ScheduleClosed));
    assert_eq!(net.sent(&name("pvs01")), 0);
    b.puller.allow(Policy { forced_roots: BTreeSet::from([root]), ..closed });
    b.heard.wait_for(root);
    assert!(b.read(root) == bytes);
}

fn wait_until(condition: impl Fn() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < until, "it never comes true");
        std::thread::yield_now();
    }
}

#[test]
fn on_a_limited_link_a_changed_chunk_travels_as_its_difference() {
    let directory = tempfile::tempdir().unwrap();
    let net = Arc::new(Net::default());
    let [a, b] = ["pvs01", "pvs02"].map(|me| server(&net, directory.path(), me));
    let mut bytes = image(100, 1);
    let old = a.import(&bytes);
    b.import(&bytes);
    for chunk in 10..60 {
        bytes[chunk * CHUNK_SIZE as usize + 100] ^= 0xff;
    }
    let root = a.import(&bytes);
    let limits = BTreeMap::from([((None, Priority::Bulk), 50_000_000)]);
    b.puller.allow(Policy { limits, ..Policy::default() });
    b.want(root, Some(old));
    b.heard.wait_for(root);
    assert!(b.read(root) == bytes);
    assert_eq!(net.sent(&name("pvs01")), 50);
    assert_eq!(a.puller.sent_bytes(), b.puller.received_bytes());
    let sent = a.puller.sent_bytes();
    assert!(sent < 50 * 200, "{sent} bytes for 50 chunks of which one byte was changed");
}
