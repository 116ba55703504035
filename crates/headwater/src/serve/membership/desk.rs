//! Servers that want to join: the token is checked, the certificate signed.

use super::{authority, clock, farm_id};
use crate::config::{Database, FarmConfig};
use crate::serve::access::token_file;
use crate::serve::farm::FarmHandle;
use crate::serve::state::AppState;
use anyhow::{Result, bail};
use farm::rules::membership::{self, Joining};
use mesh::identity::Serial;
use mesh::join::{JoinAnswer, JoinDesk, JoinRefused, JoinRequest};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Lets servers in.
pub(super) struct Desk {
    farm: Arc<FarmHandle>,
    config: FarmConfig,
    runtime: Handle,
}

impl Desk {
    /// On the runtime that this is called on.
    pub(super) fn new(state: &AppState) -> Self {
        let (farm, config) = (Arc::clone(&state.farm), state.config.farm.clone());
        Self { farm, config, runtime: Handle::current() }
    }

    async fn admit(&self, request: &JoinRequest) -> Result<JoinAnswer> {
        if self.config.database == Database::Embedded {
            bail!(
                "the farm's records are in a file of one server (farm.database is \"embedded\"), so no other server can join\n\
                 hint: move them to etcd: docs/operations/servers.md, \"From the embedded database\""
            );
        }
        let (view, serial) = (self.farm.view(), Serial::random());
        let authority = authority(&view)?;
        let certificate = authority.sign(&request.request, &request.server, &serial, clock())?;
        let hash = token_file::hash(&request.secret);
        let joining = Joining {
            server: request.server.clone(),
            address: request.address.clone(),
            serial: serial.to_string(),
        };
        self.farm.decide(|view, now| membership::join(view, &hash, joining.clone(), now)).await?;
        let settings = serde_json::json!({ "database": "etcd", "endpoints": self.config.endpoints });
        let authority = authority.certificate().to_owned();
        Ok(JoinAnswer { farm: farm_id(&view)?, authority, certificate, settings })
    }
}

impl JoinDesk for Desk {
    fn join(&self, request: &JoinRequest, from: SocketAddr) -> Result<JoinAnswer, JoinRefused> {
        let admitted = self.runtime.block_on(self.admit(request));
        match &admitted {
            Ok(_) => tracing::info!(server = %request.server, %from, "a server has joined the farm"),
            Err(error) => tracing::warn!(server = %request.server, %from, %error, "a server may not join"),
        }
        admitted.map_err(|error| JoinRefused { reason: error.to_string() })
    }
}
