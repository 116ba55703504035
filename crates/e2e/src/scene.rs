//! A farm of one server on a segment of its own, ready to boot machines.
//!
//! The server is told what it needs through its configuration file and its command line, as an
//! admin would; nothing is put behind its back.

use crate::dnsmasq::Dnsmasq;
use crate::machine::{Hardware, Machine};
use crate::needs::{self, Turn};
use crate::network::{Host, Segment};
pub use crate::server::Place;
use crate::server::Server;
use anyhow::{Context, Result, bail, ensure};
use std::process::Output;
use std::time::{Duration, Instant};

/// Who answers DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcp {
    /// Headwater gives addresses and names the loader.
    Full,
    /// dnsmasq gives addresses, Headwater only says what to boot.
    ProxyBesideDnsmasq,
}

/// What becomes of unknown machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// They become devices by themselves.
    AutoAdd,
    /// They wait until an admin accepts them.
    Wait,
}

/// What a test wants to begin with.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// The image, by the name that `cargo xtask image` knows.
    pub image: &'static str,
    /// Who answers DHCP.
    pub dhcp: Dhcp,
    /// What becomes of unknown machines.
    pub unknown: Unknown,
    /// The write cache's limit, as the command line takes it.
    pub cache: &'static str,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { image: "debian-initramfs", dhcp: Dhcp::Full, unknown: Unknown::AutoAdd, cache: "256MiB" }
    }
}

/// How long a server may take until it answers; on a machine that also runs two emulators.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The running farm. Fields are dropped in order: the server before the wires.
#[derive(Debug)]
pub struct Scene {
    server: Server,
    _dnsmasq: Option<(Dnsmasq, Host)>,
    host: Host,
    segment: Segment,
    _turn: Turn,
}

impl Scene {
    /// Starts the server, imports the image and assigns it to the default collection.
    pub fn new(wishes: Wishes) -> Result<Self> {
        let image = needs::image(wishes.image)?;
        let scene = Self::empty(wishes.dhcp, Place::Disk, "")?;
        scene.cli(&["vdisk", "import", "debian", &image.display().to_string()])?;
        let unknown = if wishes.unknown == Unknown::AutoAdd { "on" } else { "off" };
        let set = ["collection", "set", "default", "--vdisk", "debian", "--cache", wishes.cache];
        let more = ["--auto-add", unknown, "--boot-args", "console=ttyS0"];
        scene.cli(&[&set[..], &more[..]].concat())?;
        Ok(scene)
    }

    /// Starts a server without any vDisk; `boot` is added to its configuration's `[boot]`.
    pub fn empty(dhcp: Dhcp, place: Place, boot: &str) -> Result<Self> {
        let programs = needs::programs()?;
        let turn = Turn::take()?;
        let segment = Segment::new()?;
        let host = segment.host("10.77.0.1/24")?;
        let dnsmasq = match dhcp {
            Dhcp::Full => None,
            Dhcp::ProxyBesideDnsmasq => {
                let other = segment.host("10.77.0.2/24")?;
                Some((Dnsmasq::start(&other, "10.77.0.100", "10.77.0.150")?, other))
            }
        };
        let server = Server::start(&host, &programs, place, &(config(dhcp) + boot))?;
        let scene = Self { server, _dnsmasq: dnsmasq, host, segment, _turn: turn };
        scene.wait_until_ready()?;
        Ok(scene)
    }

    /// Starts a second server on the same host and ports, and gives back what it said at its end.
    pub fn second_server(&self) -> Result<String> {
        self.server.second(&self.host)
    }

    /// Ends the server as `kill -9` does.
    pub fn kill_server(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Starts a killed server again and waits until it answers.
    pub fn start_server_again(&mut self) -> Result<()> {
        self.server.start_again(&self.host)?;
        self.wait_until_ready()
    }

    /// The end of the server's log.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Runs the command line on the server's host, whatever comes of it.
    pub fn try_cli(&self, words: &[&str]) -> Result<Output> {
        self.server.try_cli(&self.host, words)
    }

    /// Runs the command line on the server's host, and fails where it fails.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        self.server.cli(&self.host, words)
    }

    /// Switches a machine on.
    pub fn machine(&self, hardware: &Hardware) -> Result<Machine> {
        Machine::start(&self.segment, hardware)
    }

    /// Runs the command line, which must fail, and gives back what it said.
    pub fn refused(&self, words: &[&str]) -> Result<String> {
        let output = self.try_cli(words)?;
        ensure!(!output.status.success(), "headwater {} was not refused", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Waits until `words` print a line with `text`.
    pub fn wait_for_cli(&self, words: &[&str], text: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            let said = self.cli(words)?;
            if said.contains(text) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("headwater {} never said {text:?}, but:\n{said}", words.join(" "));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Adds the server's log to a failure.
    pub fn explained<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| self.server.log())
    }

    fn wait_until_ready(&self) -> Result<()> {
        let until = Instant::now() + START_LIMIT;
        while !self.server.try_cli(&self.host, &["status"])?.status.success() {
            if Instant::now() > until || self.server.has_ended()? {
                bail!("the server did not start; {}", self.server.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

fn config(dhcp: Dhcp) -> String {
    let dhcp = match dhcp {
        Dhcp::Full => {
            "mode = \"full\"\npool_start = \"10.77.0.100\"\npool_end = \"10.77.0.150\"\n\
             netmask = \"255.255.255.0\""
        }
        Dhcp::ProxyBesideDnsmasq => "mode = \"proxy\"",
    };
    format!(
        "[server]\nname = \"hw1\"\nstate_dir = \"{folder}/state\"\n\
         [http]\nlisten = \"10.77.0.1:6900\"\n[nbd]\nlisten = \"10.77.0.1:10809\"\n\
         [dhcp]\ninterface = \"lan0\"\n{dhcp}\n[boot]\nagent = \"{agent}\"\n",
        folder = Server::FOLDER,
        agent = Server::AGENT,
    )
}
