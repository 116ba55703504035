//! Clients that we did not write read the imported bytes over NBD.
//!
//! Imports an image, serves it from the store, and lets nbdcopy, qemu-img, nbdinfo and fio have a
//! look; prints what ran, and ends with an error where one byte differs.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use disk::{MappedCache, RamCache, VersionDisk};
use headwater_benches::real_image;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use store::{ImportOptions, Quiet, Store, StoredVersion};
use streaming::{Export, ExportDirectory, ExportRefusal, NbdOptions, NbdServer, Peer, SessionTotals};

#[derive(Parser)]
struct Arguments {
    /// Where the image, the store and the copy go; needs 8 GiB.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// The size of the disk in MiB.
    #[arg(long, default_value_t = 1024)]
    size_mib: u64,
}

/// The sealed version, and a write cache over it.
struct Exports(BTreeMap<&'static str, Export>);

impl ExportDirectory for Exports {
    fn open(&self, name: &str, _: Peer) -> Result<Export, ExportRefusal> {
        self.0.get(name).cloned().ok_or(ExportRefusal::Unknown)
    }

    fn closed(&self, _: &str, _: Peer, _: &SessionTotals) {}
}

/// Where clients find the server.
struct Place {
    tcp: String,
    unix: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let image = real_image::prepare(&arguments.directory, arguments.size_mib << 20)?;
    let scratch = tempfile::tempdir_in(&arguments.directory)?;
    let version = import(&image, &scratch.path().join("store"))?;
    let (_server, place) = serve(&version, scratch.path())?;
    let checks: [(&str, &dyn Fn() -> Result<String>); 6] = [
        ("nbdcopy over TCP, compared byte by byte", &|| copy(&place.tcp, &image, scratch.path())),
        ("nbdcopy over a unix socket, compared byte by byte", &|| copy(&place.unix, &image, scratch.path())),
        ("qemu-img compare", &|| compare(&place.tcp, &image)),
        ("nbdinfo --can and --json", &|| abilities(&place)),
        ("nbdinfo --map against the image's bytes", &|| map(&place.tcp, &image)),
        ("fio randrw with verify on a write cache", &|| verify(&place)),
    ];
    for (name, check) in &checks {
        let found = check().with_context(|| format!("nbd-identity: {name}"))?;
        println!("{name}: {found}");
    }
    let after = compare(&place.tcp, &image).context("nbd-identity: the version after all that")?;
    println!("qemu-img compare of the version after writes to its cache: {after}");
    println!("nbd-identity: {} checks on {} MiB, every byte identical", checks.len() + 1, arguments.size_mib);
    Ok(())
}

fn import(image: &Path, store: &Path) -> Result<Arc<StoredVersion>> {
    let store = Store::open(store)?;
    let imported = store.import(&*image::open(image)?, &ImportOptions::default(), &Quiet)?;
    println!("imported {} as {}", image.display(), imported.root.short());
    Ok(store.version(&imported.root)?)
}

fn serve(version: &Arc<StoredVersion>, scratch: &Path) -> Result<(NbdServer, Place)> {
    let cache = MappedCache::new(1 << 30);
    let open = || VersionDisk::open(Arc::clone(version), &cache);
    let export = |disk| Export { disk, description: String::new(), max_connections: usize::MAX };
    let writable = RamCache::new(open()?, 1 << 30);
    let exports =
        BTreeMap::from([("disk", export(Arc::new(open()?))), ("cache", export(Arc::new(writable)))]);
    let socket = scratch.canonicalize()?.join("nbd");
    let listeners = vec![TcpListener::bind("127.0.0.1:0")?.into(), UnixListener::bind(&socket)?.into()];
    let server = NbdServer::start(NbdOptions::new(listeners), Arc::new(Exports(exports)))?;
    let tcp = format!("nbd://{}", server.local_addrs()[0]);
    Ok((server, Place { tcp, unix: format!("nbd+unix:///?socket={}", socket.display()) }))
}

/// The address of one export.
fn uri(base: &str, export: &str) -> String {
    match base.split_once("///") {
        Some((scheme, rest)) => format!("{scheme}///{export}{rest}"),
        None => format!("{base}/{export}"),
    }
}

fn copy(base: &str, image: &Path, scratch: &Path) -> Result<String> {
    let copied = scratch.join("copy.raw");
    output(Command::new("nbdcopy").arg(uri(base, "disk")).arg(&copied))?;
    same(image, &copied)?;
    std::fs::remove_file(copied)?;
    Ok("identical".into())
}

fn compare(base: &str, image: &Path) -> Result<String> {
    let text = output(
        Command::new("qemu-img")
            .args(["compare", "-f", "raw", "-F", "raw"])
            .arg(image)
            .arg(uri(base, "disk")),
    )?;
    Ok(text.trim().to_owned())
}

fn abilities(place: &Place) -> Result<String> {
    let can = |what: &str, export: &str| -> Result<bool> {
        let status = Command::new("nbdinfo").args(["--can", what]).arg(uri(&place.tcp, export)).status();
        Ok(status.context("cannot run nbdinfo: is libnbd-bin installed?")?.success())
    };
    for (what, version, cache) in [
        ("connect", true, true),
        ("read", true, true),
        ("multi-conn", true, true),
        ("df", true, true),
        ("cache", true, true),
        ("flush", true, true),
        ("fua", true, true),
        ("write", false, true),
        ("trim", false, true),
        ("zero", false, true),
    ] {
        ensure!(can(what, "disk")? == version, "nbdinfo --can {what} is wrong for a sealed version");
        ensure!(can(what, "cache")? == cache, "nbdinfo --can {what} is wrong for a write cache");
    }
    let json = output(Command::new("nbdinfo").arg("--json").arg(uri(&place.tcp, "disk")))?;
    ensure!(json.contains("\"base:allocation\""), "no base:allocation in {json}");
    ensure!(json.contains("\"structured\": true"), "no structured replies in {json}");
    let unknown = Command::new("nbdinfo").arg(uri(&place.tcp, "nothing")).output()?;
    ensure!(!unknown.status.success(), "an unknown export was opened");
    Ok("10 abilities of each export, structured replies, base:allocation; an unknown name is refused".into())
}

/// Compares what the map says to be holes with the image: all zeros; and adds up the lengths.
fn map(base: &str, image: &Path) -> Result<String> {
    let text = output(Command::new("nbdinfo").arg("--map").arg(uri(base, "disk")))?;
    let (mut file, mut end, mut holes) = (File::open(image)?, 0, 0u64);
    for line in text.lines() {
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(offset)), Some(Ok(len)), Some(Ok(kind))) = (fields.next(), fields.next(), fields.next())
        else {
            anyhow::bail!("a line of the map that makes no sense: {line}");
        };
        ensure!(offset == end, "the map has a gap at {end}");
        end = offset + len;
        let mut bytes = vec![0; 1 << 20];
        let mut left = len;
        while left > 0 {
            let piece = &mut bytes[..left.min(1 << 20) as usize];
            file.read_exact(piece)?;
            ensure!(kind == 0 || model_is_zero(piece), "the hole at {offset} has data");
            left -= piece.len() as u64;
        }
        holes += if kind == 0 { 0 } else { len };
    }
    ensure!(end == image.metadata()?.len(), "the map ends at {end}");
    Ok(format!("{} runs, {} MiB of holes, all zeros", text.lines().count(), holes >> 20))
}

fn model_is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn verify(place: &Place) -> Result<String> {
    let arguments = [
        "--name=verify",
        "--ioengine=nbd",
        "--rw=randrw",
        "--bsrange=512-64k",
        "--size=64m",
        "--iodepth=32",
        "--verify=crc32c",
        "--verify_state_save=0",
        "--do_verify=1",
        "--verify_fatal=1",
        "--output-format=terse",
        "--randseed=1",
    ];
    let uri = format!("--uri={}", uri(&place.unix, "cache"));
    let text = output(Command::new("fio").args(arguments).arg(uri))?;
    let fields: Vec<&str> = text.trim().split(';').collect();
    ensure!(fields.get(4) == Some(&"0"), "fio reports errors: {text}");
    Ok("64 MiB written and read back at 512 B to 64 KiB, depth 32, no error".into())
}

fn same(a: &Path, b: &Path) -> Result<()> {
    output(Command::new("cmp").arg(a).arg(b)).map(|_| ())
}

/// Runs a program to its end; fails where it fails.
fn output(command: &mut Command) -> Result<String> {
    let missing = || format!("cannot run {command:?}: install libnbd-bin, qemu-utils and fio");
    let message = missing();
    let output = command.output().context(message)?;
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?} ended with {}: {out}{error}", output.status);
    Ok(out.into_owned())
}
