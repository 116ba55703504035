//! A server that lies: `lying-peer STATE_DIR LISTEN ENDPOINT...` takes a server's place, with its
//! identity and its store, and says of everything what the server would say, but for one bit of each
//! chunk that it sends.
//!
//! The lie is a decorator of what serves peers; what it decorates is the server's own.

use anyhow::{Context, Result};
use farm::FarmView;
use farm_db::{Etcd, EtcdOptions, FarmDb};
use mesh::identity::ServerIdentity;
use mesh::link::{LinkOptions, Links, Peer};
use mesh::{PeerHandler, Shares};
use model::Name;
use protocol::mesh::{Accept, Have, Request, Response};
use std::path::Path;
use std::sync::Arc;
use store::Store;
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let state = arguments.next().context("the first argument is a state directory")?;
    let listen = arguments.next().context("the second argument is an address to listen on")?.parse()?;
    let (state, endpoints) = (Path::new(&state), arguments.collect());
    let store = Store::open(&state.join("store"))?;
    let folder = state.join("identity");
    let identity = ServerIdentity::load(&folder)?.context("the server has no identity")?;
    let view = records(endpoints).await?;
    let farm = view.authority.as_ref().context("the farm has no authority")?.farm.parse()?;
    // As old as the server was: one that is younger than the records say is refused.
    let starts = std::fs::read_to_string(folder.join("incarnation"))?;
    let incarnation = starts.lines().nth(1).context("the file of its starts has a number")?.parse()?;
    let options = LinkOptions::new(farm, incarnation, listen);
    let (_peers, watched) = watch::channel(peers(&view, &identity.peer().name));
    let liar = Arc::new(Liar(Shares::new(vec![Arc::new(store)])));
    let _links = Links::start(&identity, options, watched, liar, None, Arc::new(|_| ())).await?;
    std::future::pending().await
}

async fn records(endpoints: Vec<String>) -> Result<FarmView> {
    let snapshot = Etcd::connect(&EtcdOptions { endpoints, tls: None }).await?.range("").await?;
    let mut view = FarmView::default();
    for entry in snapshot.entries {
        view.put(&entry.key, &entry.value, entry.mod_revision)?;
    }
    Ok(view)
}

fn peers(view: &FarmView, me: &Name) -> Vec<Peer> {
    let others = view.servers.values().filter(|server| server.name != *me);
    let peer = |server: &farm::Server| {
        let member = server.member.as_ref()?;
        let serials = member.serials.iter().filter_map(|serial| serial.clone().try_into().ok()).collect();
        Some(Peer { name: server.name.clone(), address: member.address.clone(), serials })
    };
    others.filter_map(|server| peer(server)).collect()
}

/// What a server gives its peers, and lies.
struct Liar(Shares);

impl PeerHandler for Liar {
    fn possession(&self) -> Vec<Have> {
        self.0.possession()
    }

    fn heard(&self, _: &Name, _: &Have) {}

    fn lost(&self, _: &Name) {}

    fn answer(&self, request: &Request, send: &mut dyn FnMut(Response) -> bool) {
        let request = match request {
            // Plain bytes: one that is flipped is a wrong byte and not a broken stream.
            Request::GetChunks { root, chunks, .. } => {
                Request::GetChunks { root: *root, accept: Accept::default(), chunks: chunks.clone() }
            }
            other => other.clone(),
        };
        self.0.answer(&request, &mut |response| send(lie(response)));
    }
}

fn lie(response: Response) -> Response {
    match response {
        Response::Chunk { index, encoding, bytes } => {
            let mut bytes = bytes.to_vec();
            if let Some(byte) = bytes.last_mut() {
                *byte ^= 0x10;
            }
            Response::Chunk { index, encoding, bytes: bytes.into() }
        }
        truth => truth,
    }
}
