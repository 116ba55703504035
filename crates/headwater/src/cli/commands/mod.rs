//! The commands, by noun.

pub(crate) mod adopt;
pub(crate) mod audit;
pub(crate) mod collection;
pub(crate) mod config;
pub(crate) mod device;
pub(crate) mod events;
pub(crate) mod farm;
pub(crate) mod hook;
pub(crate) mod login;
pub(crate) mod openapi;
pub(crate) mod pending;
pub(crate) mod replication;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod token;
pub(crate) mod user;
pub(crate) mod vdisk;
pub(crate) mod version;
