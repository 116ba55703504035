//! Our server as a process of its own, so that its CPU time and memory can be measured.

use anyhow::{Context, Result};
use disk::{MappedCache, VersionDisk};
use headwater_benches::nbd::server::MAPPED_CACHE_BYTES;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use store::Store;
use streaming::{Export, ExportDirectory, ExportRefusal, NbdOptions, NbdServer, Peer, SessionTotals};

/// One disk under any name.
struct OneDisk(Export);

impl ExportDirectory for OneDisk {
    fn open(&self, _: &str, _: Peer) -> Result<Export, ExportRefusal> {
        Ok(self.0.clone())
    }

    fn closed(&self, _: &str, _: Peer, _: &SessionTotals) {}
}

/// Serves the only version of a store, says where, and goes on until it is killed.
pub(crate) fn serve(store: &Path) -> Result<()> {
    let store = Store::open(store)?;
    let root = *store.roots().first().context("the store has no version")?;
    let disk = VersionDisk::open(store.version(&root)?, &MappedCache::new(MAPPED_CACHE_BYTES))?;
    let export = Export { disk: Arc::new(disk), description: root.to_string(), max_connections: usize::MAX };
    let options = NbdOptions::new(vec![TcpListener::bind("127.0.0.1:0")?.into()]);
    let server = NbdServer::start(options, Arc::new(OneDisk(export)))?;
    println!("{}", server.local_addrs()[0]);
    loop {
        std::thread::park();
    }
}
