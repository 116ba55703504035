//! The commands: one pure function each, from a view to a change or a refusal.

pub mod boot;
pub mod canary;
pub mod collection;
pub mod copy;
pub mod device;
pub mod draft;
pub mod gate;
pub mod identity;
pub mod membership;
pub mod orphan;
pub mod pending;
pub mod people;
pub mod profile;
pub mod reach;
pub mod reading;
pub mod replication;
pub mod restored;
pub mod setup;
pub mod vdisk;
pub mod version;

#[cfg(test)]
mod tests;
