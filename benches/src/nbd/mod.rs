//! NBD measurements: a cheap load generator, the servers that are compared, what they use.

pub mod boot_script;
pub mod histogram;
pub mod load;
pub mod server;
pub mod usage;
