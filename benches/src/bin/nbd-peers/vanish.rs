//! Clients that vanish with requests in flight, while another one reads on.

use crate::bars::Verdict;
use anyhow::{Context, Result};
use headwater_benches::nbd::load::{self, Limit, Load, Pattern, Plan, Sending};
use headwater_benches::nbd::server::{EXPORT, Kind, Server, Source};
use protocol::nbd::{Command, RequestHeader};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

const CLIENTS: usize = 20;
const IN_FLIGHT: u64 = 32;

/// Lets clients vanish from each server; the bar is ours to meet.
pub(crate) fn measure(source: Source<'_>) -> Result<Verdict> {
    let mut ours = false;
    for kind in Kind::ALL {
        let mut server = Server::start(kind, source)?;
        let reader = read_on(&server, CLIENTS);
        let alive = server.is_alive();
        let served = reader.as_ref().is_ok_and(|errors| *errors == 0) && alive;
        let how = match (&reader, alive) {
            (_, false) => "the server died".to_owned(),
            (Ok(errors), true) => format!("the reader had {errors} errors"),
            (Err(error), true) => format!("the reader was cut off: {error:#}"),
        };
        println!("{CLIENTS} clients vanish: {}: {how}", kind.name());
        ours |= kind == Kind::Headwater && served;
    }
    println!();
    let text = format!("{CLIENTS} vanishing clients disturb nobody");
    Ok(Verdict { met: ours, text, headline: None })
}

/// Reads while clients vanish; how many reads failed.
fn read_on(server: &Server, clients: usize) -> Result<u64> {
    let address = server.address;
    let plan = Plan { connections: 1, depth: 4, sending: Sending::OneByOne, pattern: Pattern::Random(4096) };
    let mut load = Load::connect(address, EXPORT, &plan)?;
    let vanishing = std::thread::spawn(move || (0..clients).try_for_each(|_| vanish(address)));
    let outcome = load.run(Limit::For(Duration::from_millis(1500)))?;
    vanishing.join().ok().context("a vanishing client panicked")??;
    Ok(outcome.errors)
}

fn vanish(address: SocketAddr) -> Result<()> {
    let (mut socket, _) = load::open(address, EXPORT)?;
    let requests: Vec<u8> = (0..IN_FLIGHT)
        .flat_map(|i| RequestHeader::new(Command::Read, i, i << 20, 256 * 1024).encode())
        .collect();
    socket.write_all(&requests)?;
    std::thread::sleep(Duration::from_millis(10)); // the server is in the middle of it now
    // Unread replies make the kernel answer with a reset.
    drop(socket);
    Ok(())
}
