//! The commands: one pure function each, from a view to a change or a refusal.

pub mod boot;
pub mod collection;
pub mod device;
pub mod pending;
pub mod setup;
pub mod vdisk;

#[cfg(test)]
mod tests;
