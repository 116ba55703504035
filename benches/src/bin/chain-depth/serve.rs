//! Our server as a process of its own, so that its CPU time can be measured.

use anyhow::{Context, Result};
use disk::{MappedCache, VersionDisk};
use headwater_benches::nbd::server::MAPPED_CACHE_BYTES;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use store::{Store, StoredVersion};
use streaming::{Export, ExportDirectory, ExportRefusal, NbdOptions, NbdServer, Peer, SessionTotals};

/// One disk under any name.
struct OneDisk(Export);

impl ExportDirectory for OneDisk {
    fn open(&self, _: &str, _: Peer) -> Result<Export, ExportRefusal> {
        Ok(self.0.clone())
    }

    fn closed(&self, _: &str, _: Peer, _: &SessionTotals) {}
}

/// The version with the most layers: the last one of a chain.
pub(crate) fn deepest(store: &Store) -> Result<Arc<StoredVersion>> {
    let versions = store.roots().into_iter().map(|root| store.version(&root));
    let versions = versions.collect::<Result<Vec<_>, _>>()?;
    versions.into_iter().max_by_key(|version| version.layers().len()).context("the store has no version")
}

/// Serves the deepest version of a store, says where, and goes on until it is killed.
pub(crate) fn serve(store: &Path) -> Result<()> {
    let store = Store::open(store)?;
    let disk = VersionDisk::open(deepest(&store)?, &MappedCache::new(MAPPED_CACHE_BYTES))?;
    let export = Export { disk: Arc::new(disk), description: String::new(), max_connections: usize::MAX };
    let options = NbdOptions::new(vec![TcpListener::bind("127.0.0.1:0")?.into()]);
    let server = NbdServer::start(options, Arc::new(OneDisk(export)))?;
    println!("{}", server.local_addrs()[0]);
    loop {
        std::thread::park();
    }
}
