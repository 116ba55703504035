//! kill -9 at random moments of an import, a hundred times: the store opens, lists no half
//! version, and gives all space back.
//!
//! Half of the kills fall anywhere in an import, half into its last fifth, where the version is
//! made durable and published. A kill may also come after the end; then the version must be whole.
//! The same is done to a whole server, which is asked for imports by its command line.

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use headwater_benches::real_server::beside_this_program;
use headwater_benches::{child, import_kill, real_image};
use model::{ChunkIndex, Root};
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use store::{ImportOptions, Quiet, Store, StoredVersion};

#[derive(Parser)]
struct Arguments {
    /// Where the image and the store go; needs 2 GiB.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// How many imports are killed, and then how many servers.
    #[arg(long, default_value_t = 100)]
    kills: u32,
    /// The server that is killed [default: headwater beside this program].
    #[arg(long)]
    headwater: Option<PathBuf>,
    /// The size of the disk in MiB.
    #[arg(long, default_value_t = 512)]
    size_mib: u64,
    #[command(subcommand)]
    child: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// What is killed: imports IMAGE into the store.
    #[command(hide = true)]
    Import { image: PathBuf, store: PathBuf },
}

/// What the kills did.
#[derive(Default)]
struct Tally {
    hit: u32,
    half_imports: u32,
    unused_layers: u32,
    whole: u32,
    reclaimed_bytes: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Role::Import { image, store }) = arguments.child {
        let source = image::open(&image)?;
        Store::open(&store)?.import(&*source, &ImportOptions::default(), &Quiet)?;
        return Ok(());
    }
    let image = real_image::prepare(&arguments.directory, arguments.size_mib << 20)?;
    let path = arguments.directory.join("import-kill.store");
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    let mut whole = child::run(&mut importer(&image, &path)?)?.wall;
    let root = the_only_version(&path)?;
    eprintln!("an import takes {:.2} s; killing {} of them", whole.as_secs_f64(), arguments.kills);
    let mut tally = Tally::default();
    for kill in 0..arguments.kills {
        let mut child = importer(&image, &path)?.spawn()?;
        if let Some(ended_after) = wait(&mut child, moment(kill, whole))? {
            // The machine is less busy than when the first import was measured.
            whole = whole.min(ended_after);
        }
        kill_and_inspect(&mut child, &path, root, &mut tally).with_context(|| format!("kill {kill}"))?;
    }
    fs::remove_dir_all(&path)?;
    let servers = kill_servers(&arguments, image)?;
    report(arguments.kills, &tally, &servers)
}

fn kill_servers(arguments: &Arguments, image: PathBuf) -> Result<import_kill::Tally> {
    let directory = arguments.directory.join("import-kill.server");
    let options = import_kill::Options {
        program: arguments.headwater.clone().map_or_else(beside_this_program, Ok)?,
        directory: directory.clone(),
        // The server takes whole paths only.
        image: image.canonicalize()?,
        kills: arguments.kills,
        seed: RandomState::new().build_hasher().finish(),
    };
    eprintln!("now {} servers, with seed {}", arguments.kills, options.seed);
    let tally = import_kill::run(&options, |_, _| {}).with_context(|| format!("seed {}", options.seed))?;
    fs::remove_dir_all(&directory)?;
    Ok(tally)
}

fn importer(image: &Path, store: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("import").args([image, store]);
    Ok(command)
}

/// Takes the version that an undisturbed import made, and deletes it.
fn the_only_version(path: &Path) -> Result<Root> {
    let store = Store::open(path)?;
    let root = *store.unclaimed().first().context("the first import made no version")?;
    store.delete(&root)?;
    Ok(root)
}

/// A moment anywhere in an import, or in its last fifth and a little later.
fn moment(kill: u32, whole: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    whole.mul_f64(if kill.is_multiple_of(2) { random } else { 0.8 + random * 0.3 })
}

/// Waits for `delay`, but not past the child's end; answers how long it lived where it ended.
fn wait(child: &mut Child, delay: Duration) -> Result<Option<Duration>> {
    let start = Instant::now();
    while start.elapsed() < delay {
        if child.try_wait()?.is_some() {
            return Ok(Some(start.elapsed()));
        }
        std::thread::sleep(delay.saturating_sub(start.elapsed()).min(Duration::from_millis(1)));
    }
    Ok(None)
}

fn kill_and_inspect(child: &mut Child, path: &Path, root: Root, tally: &mut Tally) -> Result<()> {
    let running = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    tally.hit += u32::from(running);
    let before = stored_bytes(path)?;
    tally.half_imports += u32::from(count(&path.join("incoming"))? > 0);
    let layers = count(&path.join("layers"))?;
    let store = Store::open(path).context("the store does not open")?;
    ensure!(store.roots().is_empty(), "a version is claimed that nobody claimed");
    let found = store.unclaimed();
    tally.unused_layers += u32::from(layers > found.len());
    for listed in &found {
        ensure!(*listed == root, "version {listed} is listed, only {root} was ever imported");
        verify(&*store.version(listed)?)?;
        tally.whole += 1;
        store.delete(listed)?;
    }
    for directory in ["incoming", "layers", "unclaimed", "versions"] {
        ensure!(count(&path.join(directory))? == 0, "something is left in {directory}/");
    }
    ensure!(store.space()?.used == 0, "the store still uses {} bytes", store.space()?.used);
    tally.reclaimed_bytes += before;
    Ok(())
}

/// Reads every chunk and compares it with the manifest.
fn verify(version: &StoredVersion) -> Result<()> {
    let mut buffer = vec![0; model::CHUNK_SIZE as usize];
    for chunk in 0..version.size().chunk_count() {
        version.verify_chunk(ChunkIndex(chunk), &mut buffer)?;
    }
    Ok(())
}

/// How many entries a directory has; none where it does not exist yet.
fn count(directory: &Path) -> Result<usize> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.count()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// The bytes that all layers and half imports take on the disk.
fn stored_bytes(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for directory in ["incoming", "layers"] {
        for layer in fs::read_dir(path.join(directory))? {
            let layer = layer?.path();
            if layer.is_dir() {
                for file in fs::read_dir(layer)? {
                    bytes += file?.metadata()?.blocks() * 512;
                }
            }
        }
    }
    Ok(bytes)
}

fn report(kills: u32, tally: &Tally, servers: &import_kill::Tally) -> Result<()> {
    println!("killed while the import ran:            {}", tally.hit);
    println!("  half imports left and removed:        {}", tally.half_imports);
    println!("  layers without a version, removed:    {}", tally.unused_layers);
    println!("version whole and verified after all:   {}", tally.whole);
    println!("servers killed while they imported:     {}", servers.hit);
    println!("vDisk whole and checked after all:      {}", servers.whole);
    println!(
        "import-kill: {kills} kills of the store, {} in the middle of an import, and {kills} of a server, {} in the middle; 0 half vDisks listed, {} MiB given back, 0 bytes left",
        tally.hit,
        servers.hit,
        (tally.reclaimed_bytes + servers.reclaimed_bytes) >> 20,
    );
    let missed = [tally.hit, servers.hit].into_iter().any(|hit| hit * 2 < kills);
    ensure!(!missed, "too few kills hit an import to show anything");
    Ok(())
}
