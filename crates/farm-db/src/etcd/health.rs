//! How each member is, asked of all at once.

use super::members::{Member, Members};
use crate::db::{EndpointHealth, Health, MemberHealth, Revision};
use futures::future::join_all;
use std::time::{Duration, Instant};

/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn ask(members: &Members) -> Health {
    let answers = join_all(members.all().iter().map(ask_one)).await;
    let revision = answers.iter().filter_map(|(revision, _)| *revision).max();
    let endpoints = answers.into_iter().map(|(_, health)| health).collect();
    Health { engine: "etcd", revision, endpoints }
}

async fn ask_one(member: &Member) -> (Option<Revision>, EndpointHealth) {
    let begun = Instant::now();
    let asked = tokio::time::timeout(PATIENCE, status(member)).await;
    let took = begun.elapsed();
    let (revision, state) = match asked {
        Ok(Ok((revision, health))) => (Some(revision), Ok(health)),
        Ok(Err(error)) => (None, Err(error.to_string())),
        Err(_) => (None, Err("no answer".to_owned())),
    };
    (revision, EndpointHealth { endpoint: member.endpoint.clone(), took, state })
}

async fn status(member: &Member) -> Result<(Revision, MemberHealth), etcd_client::Error> {
    let mut client = member.client.clone();
    let status = client.status().await?;
    let header = status.header();
    let id = header.map_or(0, |header| header.member_id());
    let revision = header.map_or(0, |header| header.revision()) as u64;
    let members = client.member_list().await?;
    let name = members.members().iter().find(|member| member.id() == id);
    let health = MemberHealth {
        name: name.map(|member| member.name().to_owned()).unwrap_or_default(),
        version: status.version().to_owned(),
        leads: status.leader() == id,
        size_bytes: status.db_size() as u64,
        troubles: status.errors().to_vec(),
    };
    Ok((revision, health))
}
