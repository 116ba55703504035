//! kill -9 of a whole server in the middle of its imports: no half vDisk is listed, all space
//! comes back.
//!
//! Each round asks a running server for an import, kills the server at a random moment, starts it
//! again on what it left and looks: the vDisk is there whole, or not at all. Both are taken away
//! again, after which the store must be empty. The kills of the store alone are in
//! `bin/import-kill.rs`.

use crate::nbd::boot_script::Numbers;
use crate::real_server::Server;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const VDISK: &str = "disk";
/// How long the server may take to give space back before that counts as never.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where a store keeps what an import makes.
const PARTS: [&str; 4] = ["incoming", "layers", "unclaimed", "versions"];

/// How often and on what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `headwater` that is killed.
    pub program: PathBuf,
    /// Where it keeps its files; made anew.
    pub directory: PathBuf,
    /// The image that is imported.
    pub image: PathBuf,
    /// How many times.
    pub kills: u32,
    /// Where the randomness begins.
    pub seed: u64,
}

/// What the kills did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Kills that came before the import's end was told.
    pub hit: u32,
    /// vDisks that were there after all, and were whole.
    pub whole: u32,
    /// Bytes that the killed servers had left, all given back.
    pub reclaimed_bytes: u64,
}

/// Kills as often as asked; fails at the first half vDisk, and at the first byte that stays.
pub fn run(options: &Options, mut progress: impl FnMut(u32, &Tally)) -> Result<Tally> {
    let server = Server::new(&options.program, &options.directory)?;
    server.start()?;
    let begun = Instant::now();
    import(&server, options)?;
    let mut whole = begun.elapsed();
    let root = root(&server)?.context("the first import made no vDisk")?;
    take_away(&server)?;
    let (mut tally, mut random) = (Tally::default(), Numbers::new(options.seed));
    for kill in 1..=options.kills {
        until_killed(&server, options, moment(kill, whole, &mut random), &mut tally)
            // How long an import takes changes with what else the machine does.
            .map(|finished| whole = finished.unwrap_or(whole))
            .and_then(|()| inspect(&server, &root, &mut tally))
            .with_context(|| format!("kill {kill}:\n{}", server.last_lines()))?;
        progress(kill, &tally);
    }
    Ok(tally)
}

/// A moment anywhere in an import, or in its last fifth and a little later.
fn moment(kill: u32, whole: Duration, random: &mut Numbers) -> Duration {
    let random = random.below(1 << 20) as f64 / f64::from(1 << 20);
    whole.mul_f64(if kill.is_multiple_of(2) { random } else { 0.8 + random * 0.3 })
}

fn import(server: &Server, options: &Options) -> Result<()> {
    let image = options.image.to_str().context("the image's path is text")?;
    server.run(&["vdisk", "import", VDISK, image]).map(drop)
}

/// Imports until the kill; answers how long the import took that was faster.
fn until_killed(
    server: &Server,
    options: &Options,
    delay: Duration,
    tally: &mut Tally,
) -> Result<Option<Duration>> {
    let begun = Instant::now();
    let killer = server.kill_after(delay);
    let imported = import(server, options);
    let took = imported.is_ok().then(|| begun.elapsed());
    let killed = server.is_killed();
    killer.join().ok().context("the killing thread panicked")?;
    match imported {
        Err(error) if !killed => return Err(error.context("an import failed before the kill")),
        Err(_) => tally.hit += 1,
        Ok(()) => {}
    }
    tally.reclaimed_bytes += stored_bytes(server)?;
    Ok(took)
}

/// A server that starts again has the whole vDisk or none, and can give back all it has.
fn inspect(server: &Server, root: &str, tally: &mut Tally) -> Result<()> {
    server.start()?;
    let Some(found) = self::root(server)? else { return is_empty(server) };
    ensure!(found == root, "version {found} is listed, only {root} was ever imported");
    // The check reads every chunk, and wants the store for itself.
    server.kill();
    server.run(&["store", "check", server.store().to_str().context("the store's path is text")?])?;
    tally.whole += 1;
    server.start()?;
    take_away(server)
}

/// The content of the only vDisk, where there is one.
fn root(server: &Server) -> Result<Option<String>> {
    let listed = server.json(&["vdisk", "list"])?;
    let listed = listed.as_array().context("a list of vDisks")?;
    ensure!(listed.len() <= 1, "more than one vDisk: {listed:?}");
    if listed.is_empty() {
        return Ok(None);
    }
    let versions = server.json(&["version", "list", VDISK])?;
    Ok(Some(versions[0]["root"].as_str().context("a version has a root")?.to_owned()))
}

fn take_away(server: &Server) -> Result<()> {
    server.run(&["vdisk", "delete", VDISK])?;
    is_empty(server)
}

/// Waits until nothing is left of any import.
fn is_empty(server: &Server) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut left = Vec::new();
        for part in PARTS {
            let count = entries(server, part)?.len();
            left.extend((count > 0).then(|| format!("{count} in {part}/")));
        }
        let used =
            server.json(&["store", "list"])?[0]["used_bytes"].as_u64().context("a store tells its use")?;
        if left.is_empty() && used == 0 {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "the store still uses {used} bytes: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a part of the store holds; nothing where it is not made yet.
fn entries(server: &Server, part: &str) -> Result<Vec<PathBuf>> {
    match fs::read_dir(server.store().join(part)) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The bytes that all layers and half imports take on the disk; nothing writes any more.
fn stored_bytes(server: &Server) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for part in ["incoming", "layers"] {
        for layer in entries(server, part)? {
            let files =
                if layer.is_dir() { fs::read_dir(&layer)?.collect::<Result<Vec<_>, _>>()? } else { vec![] };
            for file in files {
                bytes += file.metadata()?.blocks() * 512;
            }
        }
    }
    Ok(bytes)
}
