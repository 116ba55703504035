//! Who is alive: a record under a lease that is renewed as long as its handle is held.

use super::members::Members;
use crate::announcement::Announcement;
use crate::db::DbError;
use etcd_client::PutOptions;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Renewed so many times in its time to live: two may be lost.
const RENEWALS: u32 = 3;

/// What is announced.
pub(super) struct Alive {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) ttl: Duration,
}

pub(super) async fn announce(members: Arc<Members>, alive: Alive) -> Result<Announcement, DbError> {
    let lease = put(&members, &alive).await?;
    let (stop, stopped) = oneshot::channel();
    let keeper = tokio::spawn(keep(members, alive, lease, stopped));
    Ok(Announcement::new(stop, keeper))
}

async fn keep(members: Arc<Members>, alive: Alive, mut lease: i64, mut stopped: oneshot::Receiver<()>) {
    let every = alive.ttl / RENEWALS;
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            () = tokio::time::sleep(every) => (),
        }
        if renew(&members, lease).await {
            continue;
        }
        // It ran out while the database was away. What fails now is tried again at the next turn.
        if let Ok(new) = put(&members, &alive).await {
            lease = new;
        }
    }
    // The lease takes with it what it was put with, not what another has put since. If this fails,
    // it runs out by itself.
    let _ = members.read(|mut client| async move { client.lease_revoke(lease).await }).await;
}

/// Puts the record under a lease of its own.
async fn put(members: &Members, alive: &Alive) -> Result<i64, DbError> {
    let seconds = alive.ttl.as_secs().max(1) as i64;
    let granted = members.read(|mut client| async move { client.lease_grant(seconds, None).await }).await?;
    let lease = granted.id();
    let put = members.read(|mut client| {
        let (key, value) = (alive.key.clone(), alive.value.clone());
        let options = PutOptions::new().with_lease(lease);
        async move { client.put(key, value, Some(options)).await }
    });
    put.await.map(|_| lease)
}

/// False if the lease is gone; a database that is away is no reason to think so.
async fn renew(members: &Members, lease: i64) -> bool {
    let renewed = members.read(|mut client| async move {
        match client.lease_keep_alive(lease).await {
            Ok(_) => Ok(true),
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(false),
            Err(error) => Err(error),
        }
    });
    renewed.await.unwrap_or(true)
}
