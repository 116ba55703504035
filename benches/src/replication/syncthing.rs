//! Two syncthings that know only each other: no discovery, no relays, no watching of files.
//!
//! Both have the image, hashed. Each run changes it on host 0 as the update did (or undoes that),
//! asks for a scan there, and ends when host 1 has put the finished file in its place.

use super::{Counters, Run, cpu_of, files::Daemon};
use crate::child;
use crate::lan::{self, Lan};
use crate::nbd::usage;
use crate::os_update::Pair;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const FOLDER: &str = "image";
const API_PORT: u16 = 8384;
const MESH_PORT: u16 = 22000;
const KEY: &str = "bench";
/// Hashing 4 GiB takes half a minute on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// The two, and what they keep the same.
#[derive(Debug)]
pub struct Syncthing<'a> {
    lan: &'a Lan,
    pair: &'a Pair,
    ends: Vec<End>,
}

#[derive(Debug)]
struct End {
    image: PathBuf,
    daemon: Daemon,
}

impl<'a> Syncthing<'a> {
    /// Starts both on copies of the image before the update, and waits until they agree.
    pub fn start(lan: &'a Lan, pair: &'a Pair, directory: &Path) -> Result<Self> {
        let homes: Vec<PathBuf> = (0..2).map(|end| directory.join(format!("syncthing{end}"))).collect();
        let ids = homes.iter().map(|home| generate(home)).collect::<Result<Vec<String>>>()?;
        let mut ends = Vec::new();
        for (end, home) in homes.iter().enumerate() {
            ends.push(start(lan, pair, end, home, &ids)?);
        }
        let this = Self { lan, pair, ends };
        this.wait_until_same()?;
        Ok(this)
    }

    /// One run: the update where `undo` is false, back where it is true.
    pub fn run(&self, undo: bool) -> Result<Run> {
        let from = if undo { &self.pair.before } else { &self.pair.after };
        let [one, two] = [&self.ends[0].image, &self.ends[1].image];
        self.pair.apply(from, one)?;
        let ids = self.ids()?;
        let (cpu, counters, begun) = (cpu_of(&ids)?, Counters::begin(self.lan, 2)?, Instant::now());
        self.ask(0, "POST", &format!("db/scan?folder={FOLDER}"))?;
        while modified(one)? != modified(two)? {
            ensure!(begun.elapsed() < PATIENCE, "syncthing does not bring the image");
            std::thread::sleep(Duration::from_millis(20));
        }
        let wall = begun.elapsed();
        let ((wire, upload), cpu) = (counters.end(self.lan)?, cpu_of(&ids)?.saturating_sub(cpu));
        self.pair.check(from, two)?;
        Ok(Run { wall, readable: wall, cpu, wire, upload })
    }

    fn ids(&self) -> Result<Vec<u32>> {
        let families = self.ends.iter().map(|end| usage::family(end.daemon.id()));
        Ok(families.collect::<Result<Vec<_>>>()?.concat())
    }

    fn ask(&self, end: usize, method: &str, path: &str) -> Result<String> {
        let url = format!("http://{}:{API_PORT}/rest/{path}", lan::address(end));
        let mut command = Command::new("curl");
        command.args(["--silent", "--fail", "-X", method, "-H", &format!("X-API-Key: {KEY}"), &url]);
        let output = command.output()?;
        ensure!(output.status.success(), "syncthing does not answer {url}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn wait_until_same(&self) -> Result<()> {
        let begun = Instant::now();
        let same = |end| -> Result<bool> {
            let said: serde_json::Value =
                serde_json::from_str(&self.ask(end, "GET", &format!("db/status?folder={FOLDER}"))?)?;
            let connections: serde_json::Value =
                serde_json::from_str(&self.ask(end, "GET", "system/connections")?)?;
            let peers = connections["connections"].as_object().context("syncthing says who is connected")?;
            let connected = peers.values().any(|peer| peer["connected"] == true);
            let is = |key: &str, value: u64| said[key].as_u64() == Some(value);
            Ok(connected && said["state"] == "idle" && is("needBytes", 0) && is("localFiles", 1))
        };
        while !(same(0).unwrap_or(false) && same(1).unwrap_or(false)) {
            ensure!(begun.elapsed() < PATIENCE, "the two syncthings do not agree");
            std::thread::sleep(Duration::from_millis(200));
        }
        // They say so before they have told each other all of it.
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    }
}

fn generate(home: &Path) -> Result<String> {
    fs::create_dir_all(home.join("files"))?;
    let run = |words: &[&str]| -> Result<String> {
        let output = Command::new("syncthing").args(words).arg(format!("--home={}", home.display())).output();
        let output = output.context("cannot start syncthing\nhint: apt-get install syncthing")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "syncthing {words:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    };
    run(&["generate", "--no-default-folder"])?;
    Ok(run(&["--device-id"])?.trim().to_owned())
}

fn start(lan: &Lan, pair: &Pair, end: usize, home: &Path, ids: &[String]) -> Result<End> {
    let home = home.canonicalize()?;
    let image = home.join("files/image.raw");
    child::run(
        Command::new("cp").args(["--sparse=always", "--preserve=timestamps"]).args([&pair.before, &image]),
    )?;
    fs::write(home.join("config.xml"), config(end, &home, ids))?;
    let mut command = lan.command(end, "syncthing");
    command.args(["serve", "--no-browser", "--no-restart", &format!("--home={}", home.display())]);
    command.env("HOME", &home).env("STNOUPGRADE", "1");
    Ok(End { image, daemon: Daemon::start(&mut command, end, API_PORT)? })
}

fn config(end: usize, home: &Path, ids: &[String]) -> String {
    let device = |(number, id): (usize, &String)| {
        let address = format!("<address>tcp://{}:{MESH_PORT}</address>", lan::address(number));
        format!("<device id=\"{id}\" name=\"end{number}\" compression=\"metadata\">{address}</device>\n")
    };
    let devices: String = ids.iter().enumerate().map(device).collect();
    let members: String = ids.iter().map(|id| format!("<device id=\"{id}\"></device>")).collect();
    let (own, files) = (lan::address(end), home.join("files"));
    let off = [
        "globalAnnounceEnabled",
        "localAnnounceEnabled",
        "relaysEnabled",
        "natEnabled",
        "crashReportingEnabled",
    ]
    .map(|name| format!("<{name}>false</{name}>"))
    .concat();
    format!(
        "<configuration version=\"35\">\n\
         <folder id=\"{FOLDER}\" path=\"{files}\" type=\"sendreceive\" rescanIntervalS=\"0\" fsWatcherEnabled=\"false\">\
         {members}<minDiskFree unit=\"%\">0</minDiskFree></folder>\n{devices}\
         <gui enabled=\"true\" tls=\"false\"><address>{own}:{API_PORT}</address><apikey>{KEY}</apikey></gui>\n\
         <options><listenAddress>tcp://{own}:{MESH_PORT}</listenAddress>{off}\
         <autoUpgradeIntervalH>0</autoUpgradeIntervalH><urAccepted>-1</urAccepted>\
         <startBrowser>false</startBrowser></options>\n</configuration>\n",
        files = files.display(),
    )
}

fn modified(path: &Path) -> Result<(i64, i64)> {
    // Between its old and its new file there may be none for a moment.
    Ok(path.metadata().map(|metadata| (metadata.mtime(), metadata.mtime_nsec())).unwrap_or_default())
}
