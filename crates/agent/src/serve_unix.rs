//! The same disk on a unix socket, for tests and for looking at a plan's disk without a kernel
//! module: `headwater-agent serve-unix --plan FILE|URL --socket PATH`.

use crate::device_disk::DeviceDisk;
use crate::transmission::{self, Client};
use crate::{console, daemon, fetch};
use anyhow::{Context as _, bail};
use disk::BlockIo;
use protocol::nbd::server::{Event, ExportShape, Handshake, TlsOffer};
use protocol::plan::BootPlan;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a server may take to answer before the command gives up.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What was asked for on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServeUnix {
    plan: String,
    socket: PathBuf,
}

impl ServeUnix {
    /// Reads `--plan FILE|URL --socket PATH`, in any order.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let (mut plan, mut socket) = (None, None);
        while let Some(word) = words.next() {
            match (word.as_str(), words.next()) {
                ("--plan", Some(value)) => plan = Some(value),
                ("--socket", Some(value)) => socket = Some(PathBuf::from(value)),
                _ => bail!("{word:?} is not understood"),
            }
        }
        Ok(Self { plan: plan.context("--plan is missing")?, socket: socket.context("--socket is missing")? })
    }

    /// Serves the disk to any number of clients, for ever.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let plan = read_plan(&self.plan)?;
        let disk = Arc::new(daemon::open(&plan)?);
        if !disk.remote().wait_connected(CONNECT_WITHIN) {
            bail!("no server of the plan streams its disk");
        }
        let listener = UnixListener::bind(&self.socket)
            .with_context(|| format!("cannot listen at {}", self.socket.display()))?;
        console::info(format!("serving at {}", self.socket.display()));
        for client in listener.incoming() {
            let (client, disk) = (client?, Arc::clone(&disk));
            std::thread::spawn(move || serve(&disk, client));
        }
        Ok(())
    }
}

fn read_plan(from: &str) -> anyhow::Result<BootPlan> {
    if from.starts_with("http://") {
        return Ok(fetch::plan_once(from)?);
    }
    let json = std::fs::read(Path::new(from)).with_context(|| from.to_owned())?;
    Ok(fetch::parse(&json)?)
}

fn serve(disk: &Arc<DeviceDisk>, socket: UnixStream) {
    let size_bytes = disk.remote().geometry().size_bytes;
    match shake_hands(socket, size_bytes) {
        Ok(Some(client)) => console::info(transmission::serve(disk, client)),
        Ok(None) => {}
        Err(error) => console::problem(format!("a client's handshake: {error}")),
    }
}

/// Opens the one disk under whatever name a client asks for.
fn shake_hands(mut socket: UnixStream, size_bytes: u64) -> std::io::Result<Option<Client>> {
    let mut output = Vec::new();
    let mut handshake = Handshake::new(TlsOffer::Unavailable, &mut output);
    let mut input = Vec::new();
    loop {
        let step = handshake.receive(&input, &mut output);
        input.drain(..step.consumed);
        let session = match step.event {
            Event::OpenExport { .. } => {
                let description = "headwater device disk".to_owned();
                handshake.opened(&ExportShape { size_bytes, read_only: false, description }, &mut output)
            }
            Event::NeedMore => None,
            Event::Close | Event::StartTls => {
                socket.write_all(&output)?;
                return Ok(None);
            }
        };
        socket.write_all(&output)?;
        output.clear();
        if let Some(session) = session {
            return Ok(Some(Client { socket, session, early: input }));
        }
        if step.event == Event::NeedMore && read_more(&mut socket, &mut input)? == 0 {
            return Ok(None);
        }
    }
}

fn read_more(socket: &mut UnixStream, input: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut buffer = [0; 4096];
    let len = socket.read(&mut buffer)?;
    input.extend_from_slice(&buffer[..len]);
    Ok(len)
}
