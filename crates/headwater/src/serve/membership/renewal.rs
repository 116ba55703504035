//! A server renews its own certificate: the authority's key is in the records.

use super::{authority, clock, identity_dir};
use crate::serve::state::AppState;
use anyhow::Result;
use farm::rules::membership;
use mesh::identity::{KeyRequest, Serial, ServerIdentity};
use mesh::link::Links;
use time::Duration;

/// A third of a certificate's year.
const BEFORE_THE_END: Duration = Duration::days(120);

/// Renews the certificate where little is left of it; what fails is tried again later.
pub(super) async fn renew_if_due(state: &AppState, links: &Links) {
    let due = match ServerIdentity::load(&identity_dir(state)) {
        Ok(Some(identity)) => identity.expires() - clock() < BEFORE_THE_END,
        Ok(None) => false,
        Err(error) => return tracing::error!(%error, "the identity of this server cannot be read"),
    };
    if due && let Err(error) = renew(state, links).await {
        tracing::warn!(%error, "the certificate of this server is not renewed yet");
    }
}

/// Into the record first: peers then take both, whichever this server shows.
async fn renew(state: &AppState, links: &Links) -> Result<()> {
    let (key, serial) = (KeyRequest::make(&state.server)?, Serial::random());
    let authority = authority(&state.farm.view())?;
    let certificate = authority.sign(key.request(), &state.server, &serial, clock())?;
    let identity = key.certified(authority.certificate(), &certificate)?;
    state.farm.decide(|view, _| membership::renewed(view, &state.server, serial.to_string())).await?;
    identity.save(&identity_dir(state))?;
    links.set_identity(&identity)?;
    tracing::info!("this server has a new certificate");
    Ok(())
}
