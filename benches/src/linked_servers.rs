//! Servers in this process that pull from each other over real links: TCP on the loopback
//! interface, mutual TLS, a store on disk each. No farm records: what is wanted is said.

use anyhow::{Context, Result, ensure};
use mesh::identity::{Authority, KeyRequest, Serial, ServerIdentity};
use mesh::link::{LinkOptions, Links, Peer};
use mesh::{PullObserver, PullOptions, Puller, Wanted};
use model::{Name, Root};
use protocol::mesh::FarmId;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use store::Store;
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use tokio::sync::watch;

const FARM: FarmId = FarmId([6; 16]);

/// One of them.
pub struct Server {
    /// Its name.
    pub name: Name,
    /// What it has.
    pub store: Arc<Store>,
    /// What it pulls.
    pub puller: Puller,
    identity: ServerIdentity,
    peers: watch::Sender<Vec<Peer>>,
    links: Arc<Links>,
    heard: Arc<Heard>,
}

/// What a server's pulling reported.
#[derive(Default)]
struct Heard {
    completed: Mutex<Vec<Root>>,
    trouble: Mutex<Vec<String>>,
}

impl PullObserver for Heard {
    fn completed(&self, root: Root) {
        self.completed.lock().expect("no holder panics").push(root);
    }

    fn bad_peer(&self, peer: &Name, _: Root, reason: &str) {
        self.trouble.lock().expect("no holder panics").push(format!("{peer} is bad: {reason}"));
    }

    fn failing(&self, peer: &Name, _: Root, times: u32) {
        self.trouble.lock().expect("no holder panics").push(format!("{peer} failed {times} times"));
    }

    fn no_room(&self, _: Root) {
        self.trouble.lock().expect("no holder panics").push("the store is full".into());
    }
}

/// So many servers with stores in `directory`, all connected to each other.
pub fn start(runtime: &Runtime, directory: &Path, count: usize) -> Result<Vec<Server>> {
    let authority = Authority::make(FARM, OffsetDateTime::now_utc())?;
    let servers: Vec<Server> = (1..=count)
        .map(|number| runtime.block_on(server(&authority, directory, &format!("pvs{number:02}"))))
        .collect::<Result<_>>()?;
    for server in &servers {
        let others = servers.iter().filter(|other| other.name != server.name).map(Server::as_peer);
        server.peers.send_replace(others.collect());
    }
    let begun = Instant::now();
    while servers.iter().any(|server| mesh::Peers::connected(&*server.links).len() + 1 < count) {
        ensure!(begun.elapsed() < Duration::from_secs(30), "the servers do not connect");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(servers)
}

async fn server(authority: &Authority, directory: &Path, name: &str) -> Result<Server> {
    let name = Name::new(name)?;
    let store = Arc::new(Store::open(&directory.join(name.as_str()))?);
    let heard = Arc::new(Heard::default());
    let observer = Arc::clone(&heard) as Arc<dyn PullObserver>;
    let puller = Puller::start(name.clone(), vec![Arc::clone(&store)], PullOptions::default(), observer)?;
    let key = KeyRequest::make(&name)?;
    let signed = authority.sign(key.request(), &name, &Serial::random(), OffsetDateTime::now_utc())?;
    let identity = key.certified(authority.certificate(), &signed)?;
    let (peers, watched) = watch::channel(Vec::new());
    let options = LinkOptions::new(FARM, 1, "127.0.0.1:0".parse().context("an address")?);
    let observer = Arc::new(|_| {});
    let links = Links::start(&identity, options, watched, puller.handler(), None, observer).await?;
    let links = Arc::new(links);
    puller.connect(Arc::clone(&links) as Arc<dyn mesh::Peers>);
    Ok(Server { name, store, puller, identity, peers, links, heard })
}

impl Server {
    fn as_peer(&self) -> Peer {
        let shown = self.identity.peer();
        let address = self.links.local_addr().to_string();
        Peer { name: shown.name.clone(), address, serials: vec![shown.serial] }
    }

    /// Has it pull a version, above another one where that is here.
    pub fn want(&self, root: Root, below: Option<Root>) {
        let (store, priority) = (Arc::clone(&self.store), mesh::Priority::Bulk);
        self.puller.want(BTreeMap::from([(root, Wanted { store, below, priority })]));
    }

    /// Whether all of it is there and durable; fails where the pulling met trouble.
    pub fn is_complete(&self, root: Root) -> Result<bool> {
        let trouble = self.heard.trouble.lock().expect("no holder panics").clone();
        ensure!(trouble.is_empty(), "{}: {trouble:?}", self.name);
        Ok(self.heard.completed.lock().expect("no holder panics").contains(&root))
    }
}
