//! The device's end of Headwater: attaches the streamed disk and keeps the write cache.
//!
//! One static binary with four lives: `/headwater/init`, the first process of a device
//! ([`init`]); the resident process that serves the kernel's disk ([`daemon`]); a hook of the
//! initrd that gives the device its identity ([`identity`]); and a command that serves the same
//! disk on a unix socket ([`serve_unix`]).

mod console;
mod daemon;
mod device_disk;
mod fetch;
mod full_cache;
mod identity;
mod init;
mod kernel_disk;
mod kernel_parameters;
mod memory;
mod modules;
mod netlink;
mod network;
mod remote;
mod report;
mod serve_unix;
mod shutdown;
#[cfg(test)]
mod test_server;
mod transmission;

use anyhow::{Context as _, bail};

const USAGE: &str = "usage: headwater-agent serve-unix --plan FILE|URL --socket PATH\n\
    hint: on a device the agent is started by the kernel, as rdinit=/headwater/init";

fn main() -> anyhow::Result<()> {
    if std::process::id() == 1 {
        init::run();
    }
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("daemon") => {
            if let Err(error) = daemon::run() {
                console::problem(format!("{error:#}"));
                std::process::exit(1);
            }
            Ok(())
        }
        Some("identity") => {
            let root = words.next().filter(|root| !root.is_empty()).context(USAGE)?;
            identity::apply(std::path::Path::new(&root));
            Ok(())
        }
        Some("serve-unix") => serve_unix::ServeUnix::parse(words)?.run(),
        _ => bail!(USAGE),
    }
}
