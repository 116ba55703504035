//! The program from outside: a real server, the real command line, files on a real disk.

mod access;
mod adopt;
mod audit;
mod etcd;
mod etcd_tls;
mod farm;
mod farm_records;
mod hooks;
mod lab;
mod metrics;
mod profiles;
mod repair;
mod serve;
mod store_care;
mod support;
mod vdisks;
mod versions;
