//! Import against its peers: our store, `qemu-img convert`, `cp --sparse`, on one image.
//!
//! Ours hashes and is durable when it returns. qemu-img's result may still be only in memory, so it
//! is measured with and without a `sync` of its file. The bar: ours takes no longer than qemu-img
//! without the sync.

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use comfy_table::Table;
use headwater_benches::child::{Cost, median, run};
use headwater_benches::real_image;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use store::{ImportOptions, Quiet, Store};

#[derive(Parser)]
struct Arguments {
    /// Where the image and the results go; needs twice the size of the disk.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// How often each contender runs.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// The size of the disk in MiB.
    #[arg(long, default_value_t = 4096)]
    size_mib: u64,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Subcommand)]
enum Child {
    /// What is measured: imports IMAGE into a new store.
    #[command(hide = true)]
    Import { image: PathBuf, store: PathBuf },
}

/// One way to bring an image in.
struct Contender {
    name: &'static str,
    command: fn(&Path, &Path) -> Result<Command>,
    costs: Vec<Cost>,
}

const OURS: usize = 0;
const QEMU: usize = 1;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Child::Import { image, store }) = arguments.child {
        let source = image::open(&image)?;
        Store::open(&store)?.import(&*source, &ImportOptions::default(), &Quiet)?;
        return Ok(());
    }
    let source = real_image::prepare(&arguments.directory, arguments.size_mib << 20)?;
    let mut contenders = contenders();
    for round in 0..arguments.runs {
        for contender in &mut contenders {
            eprintln!("round {} of {}: {}", round + 1, arguments.runs, contender.name);
            contender.costs.push(measure(contender.command, &source, &arguments.directory)?);
        }
    }
    report(&contenders, arguments.size_mib)
}

fn contenders() -> [Contender; 4] {
    let contender = |name, command| Contender { name, command, costs: Vec::new() };
    [
        contender("headwater import (durable)", |image, out| {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("import").args([image, out]);
            Ok(command)
        }),
        contender("qemu-img convert -O qcow2", |image, out| {
            let mut command = Command::new("qemu-img");
            command.args(["convert", "-f", "raw", "-O", "qcow2"]).args([image, out]);
            Ok(command)
        }),
        contender("qemu-img convert -O qcow2; sync", |image, out| {
            let mut command = Command::new("sh");
            let script = r#"qemu-img convert -f raw -O qcow2 "$1" "$2" && sync "$2""#;
            command.args(["-c", script, "sh"]).args([image, out]);
            Ok(command)
        }),
        contender("cp --sparse=always", |image, out| {
            let mut command = Command::new("cp");
            command.arg("--sparse=always").args([image, out]);
            Ok(command)
        }),
    ]
}

/// Runs one contender with the image in the page cache and no write of another one under way.
fn measure(command: fn(&Path, &Path) -> Result<Command>, image: &Path, directory: &Path) -> Result<Cost> {
    std::io::copy(&mut fs::File::open(image)?, &mut std::io::sink())?;
    run(&mut Command::new("sync"))?;
    let out = directory.join("import-peers.out");
    let cost = run(&mut command(image, &out)?)?;
    if out.is_dir() {
        fs::remove_dir_all(&out)?;
    } else {
        fs::remove_file(&out)?;
    }
    Ok(cost)
}

fn report(contenders: &[Contender], size_mib: u64) -> Result<()> {
    let wall =
        |contender: &Contender| median(&contender.costs.iter().map(|cost| cost.wall).collect::<Vec<_>>());
    let cpu =
        |contender: &Contender| median(&contender.costs.iter().map(|cost| cost.cpu).collect::<Vec<_>>());
    let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let mut table = Table::new();
    table.set_header(["", "seconds", "min", "max", "CPU seconds", "ours / this", "CPU ours / this"]);
    let (ours, ours_cpu) = (wall(&contenders[OURS]), cpu(&contenders[OURS]));
    for contender in contenders {
        let walls = contender.costs.iter().map(|cost| cost.wall);
        table.add_row([
            contender.name.to_owned(),
            seconds(wall(contender)),
            seconds(walls.clone().min().unwrap_or_default()),
            seconds(walls.max().unwrap_or_default()),
            seconds(cpu(contender)),
            format!("{:.2}", ratio(ours, wall(contender))),
            format!("{:.2}", ratio(ours_cpu, cpu(contender))),
        ]);
    }
    println!("{table}");
    let (peer, peer_cpu) = (wall(&contenders[QEMU]), cpu(&contenders[QEMU]));
    println!(
        "import-peers: {size_mib} MiB imported durably in {} s ({} CPU s), qemu-img convert {} s ({} CPU s): {:.2} of its time",
        seconds(ours),
        seconds(ours_cpu),
        seconds(peer),
        seconds(peer_cpu),
        ratio(ours, peer),
    );
    ensure!(ours <= peer, "the bar is missed: the import must take no longer than qemu-img convert");
    Ok(())
}
