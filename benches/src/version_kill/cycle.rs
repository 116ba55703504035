//! The loop that is killed: create, write, flush, checkpoint, seal, promote, read back.

use super::ledger::{BLOCK, Ledger};
use super::writer::{Request, Writer};
use crate::nbd::boot_script::Numbers;
use crate::real_server::Server;
use anyhow::{Context, Result, bail, ensure};
use protocol::nbd::Command;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// The vDisk that all versions are of.
pub const VDISK: &str = "disk";
/// Bursts of one writing session at most, requests of a burst, blocks of a request.
const BURSTS: u64 = 6;
const REQUESTS: u64 = 12;
const BLOCKS: u64 = 8;
/// Versions that are kept: older ones are deleted.
const KEPT: usize = 6;

/// What was done until now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Blocks that were sent.
    pub blocks: u64,
    /// Flushes that were acknowledged.
    pub flushes: u64,
    /// Checkpoints that were made while a session was open.
    pub checkpoints: u64,
    /// Versions that were sealed.
    pub seals: u64,
    /// Promotions to production.
    pub promotions: u64,
}

/// The loop, and what it knows of the disk.
#[derive(Debug)]
pub struct Cycle {
    ledger: Ledger,
    random: Numbers,
    /// The content of each sealed version, once it was seen.
    roots: BTreeMap<u64, String>,
    /// What production devices boot, and what they may boot after the step that is under way.
    production: u64,
    /// What was done.
    pub tally: Tally,
}

/// What the server says of one version.
#[derive(Clone, Debug)]
struct Version {
    number: u64,
    access: String,
    draft: bool,
    in_production: bool,
    root: String,
}

impl Cycle {
    /// A loop over a vDisk that was imported from `image` and has one version.
    pub fn new(image: Vec<u8>, seed: u64) -> Self {
        let ledger = Ledger::new(image);
        Self {
            ledger,
            random: Numbers::new(seed),
            roots: BTreeMap::new(),
            production: 1,
            tally: Tally::default(),
        }
    }

    /// The next step: what it is depends on how far the newest version has come.
    pub fn step(&mut self, server: &Server) -> Result<()> {
        let newest = newest(server)?;
        let number = newest.number.to_string();
        match newest.access.as_str() {
            "maintenance" if newest.draft => {
                self.write(server, newest.number)?;
                server.run(&["version", "seal", VDISK, &number])?;
                self.tally.seals += 1;
            }
            "maintenance" => drop(server.run(&["version", "promote", VDISK, &number, "--to", "test"])?),
            "test" => {
                server.run(&["version", "promote", VDISK, &number, "--to", "production"])?;
                self.production = newest.number;
                self.tally.promotions += 1;
                self.read_back(server)?;
            }
            "production" => {
                self.delete_oldest(server)?;
                server.run(&["version", "create", VDISK])?;
            }
            other => bail!("the newest version is {other}"),
        }
        Ok(())
    }

    /// After a restart: nothing acknowledged is gone, nothing sealed has changed.
    pub fn inspect(&mut self, server: &Server) -> Result<()> {
        for session in server.json(&["session", "list"])?.as_array().context("a list of sessions")? {
            server.run(&["session", "close", text(session, "id")?])?;
        }
        let versions = versions(server)?;
        for version in versions.iter().filter(|version| !version.draft) {
            let known = self.roots.entry(version.number).or_insert_with(|| version.root.clone());
            ensure!(*known == version.root, "version {} was {known}, is {}", version.number, version.root);
        }
        let newest = versions.last().context("the vDisk has versions")?;
        let production = versions.iter().find(|version| version.in_production);
        let production = production.context("no version is in production any more")?.number;
        let allowed = [self.production, newest.number];
        ensure!(allowed.contains(&production), "version {production} is in production, not {allowed:?}");
        self.production = production;
        let bytes = read(server, newest)?;
        self.ledger.observe(0, &bytes)
    }

    fn write(&mut self, server: &Server, number: u64) -> Result<()> {
        let version = number.to_string();
        let opened = server.json(&["session", "create", VDISK, "--version", &version, "--write"])?;
        let mut writer = Writer::open(text(&opened, "uri")?)?;
        for _ in 0..1 + self.random.below(BURSTS) {
            let requests = self.burst(number);
            self.tally.blocks +=
                requests.iter().map(|request| u64::from(request.len) / BLOCK as u64).sum::<u64>();
            writer.change(&requests)?;
            match self.random.below(4) {
                0 => {}
                1 => {
                    self.flush(&mut writer)?;
                    server.run(&["version", "checkpoint", VDISK, &version])?;
                    self.tally.checkpoints += 1;
                }
                _ => self.flush(&mut writer)?,
            }
        }
        self.flush(&mut writer)?;
        drop(writer);
        server.run(&["session", "close", text(&opened, "id")?]).map(drop)
    }

    fn flush(&mut self, writer: &mut Writer) -> Result<()> {
        writer.flush()?;
        self.ledger.flushed();
        self.tally.flushes += 1;
        Ok(())
    }

    /// Requests that touch no block twice: two in flight may be carried out in any order.
    fn burst(&mut self, version: u64) -> Vec<Request> {
        let (mut requests, mut touched) = (Vec::new(), HashSet::new());
        for _ in 0..1 + self.random.below(REQUESTS) {
            let count = 1 + self.random.below(BLOCKS) as usize;
            let first = self.random.below((self.ledger.blocks() - count) as u64) as usize;
            let blocks = first..first + count;
            if blocks.clone().any(|block| touched.contains(&block)) {
                continue;
            }
            touched.extend(blocks.clone());
            let command = match self.random.below(8) {
                0 => Command::Trim,
                1 => Command::WriteZeroes,
                _ => Command::Write,
            };
            let mut data = Vec::new();
            for block in blocks {
                match command {
                    Command::Write => data.extend(self.ledger.write(block, version)),
                    _ => self.ledger.zero(block),
                }
            }
            requests.push(Request {
                command,
                offset: (first * BLOCK) as u64,
                len: (count * BLOCK) as u32,
                data,
            });
        }
        requests
    }

    /// A production device's view is what was written, all of it.
    fn read_back(&mut self, server: &Server) -> Result<()> {
        let newest = newest(server)?;
        ensure!(newest.in_production, "version {} was promoted and is not in production", newest.number);
        self.roots.insert(newest.number, newest.root.clone());
        self.ledger.require(&read(server, &newest)?)
    }

    fn delete_oldest(&mut self, server: &Server) -> Result<()> {
        let versions = versions(server)?;
        let above = versions.len().saturating_sub(KEPT);
        for version in &versions[..above] {
            server.run(&["version", "delete", VDISK, &version.number.to_string()])?;
        }
        Ok(())
    }
}

fn newest(server: &Server) -> Result<Version> {
    versions(server)?.pop().context("the vDisk has versions")
}

/// The versions, lowest number first.
fn versions(server: &Server) -> Result<Vec<Version>> {
    let list = server.json(&["version", "list", VDISK])?;
    let mut versions = list
        .as_array()
        .context("a list of versions")?
        .iter()
        .map(Version::new)
        .collect::<Result<Vec<_>>>()?;
    versions.sort_by_key(|version| version.number);
    Ok(versions)
}

/// The whole content, through a session of its own.
fn read(server: &Server, version: &Version) -> Result<Vec<u8>> {
    let number = version.number.to_string();
    let mut words = vec!["session", "create", VDISK, "--version", &number];
    words.extend(version.draft.then_some("--write"));
    let opened = server.json(&words)?;
    let bytes = Writer::open(text(&opened, "uri")?)?.read_all()?;
    server.run(&["session", "close", text(&opened, "id")?])?;
    Ok(bytes)
}

impl Version {
    fn new(value: &Value) -> Result<Self> {
        Ok(Self {
            number: value["number"].as_u64().context("a version has a number")?,
            access: text(value, "access")?.to_owned(),
            draft: text(value, "state")? == "draft",
            in_production: value["in_production"].as_bool().context("a version is in production or not")?,
            root: text(value, "root")?.to_owned(),
        })
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field].as_str().with_context(|| format!("{field} is missing in {value}"))
}
