//! From the end of an import or promotion on one server to the first block of the new version read
//! on another one over NBD: under 1 s, whatever the size.

use anyhow::{Result, ensure};
use clap::Parser;
use comfy_table::Table;
use headwater_benches::first_read::{FirstRead, Shown, Size, run};
use headwater_benches::real_server::beside_this_program;
use std::path::PathBuf;
use std::time::Duration;

/// The bar.
const BAR: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Arguments {
    /// Where the servers keep their files; needs 10 GiB.
    #[arg(long, default_value = "target/bench/lazy-first-read")]
    directory: PathBuf,
    /// The server's program [default: headwater beside this one].
    #[arg(long)]
    headwater: Option<PathBuf>,
    /// How often each disk is tried.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

const SIZES: [Size; 3] = [
    Size { disk_mib: 64, data_mib: 16, changed_mib: 4 },
    Size { disk_mib: 4 << 10, data_mib: 1 << 10, changed_mib: 256 },
    Size { disk_mib: 40 << 10, data_mib: 2 << 10, changed_mib: 512 },
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = arguments.headwater.clone().map_or_else(beside_this_program, Ok)?;
    let sizes: Vec<Size> = SIZES.into_iter().cycle().take(SIZES.len() * arguments.rounds).collect();
    let shown = run(&program, &arguments.directory, &sizes)?;
    report(&sizes, &shown)
}

fn report(sizes: &[Size], shown: &[Shown]) -> Result<()> {
    let mut table = Table::new();
    table.set_header([
        "disk GiB",
        "data MiB",
        "changed MiB",
        "after the import ms",
        "after the promotion ms",
    ]);
    for (size, shown) in sizes.iter().zip(shown) {
        table.add_row([
            format!("{:.2}", size.disk_mib as f64 / 1024.0),
            size.data_mib.to_string(),
            size.changed_mib.to_string(),
            text(shown.imported),
            text(shown.promoted),
        ]);
    }
    let longest =
        |of: fn(&Shown) -> FirstRead| shown.iter().map(|shown| of(shown).read).max().unwrap_or_default();
    let (imported, promoted) = (longest(|shown| shown.imported), longest(|shown| shown.promoted));
    println!("{table}");
    println!(
        "lazy-first-read: the longest of {} took {} ms after an import, {} ms after a promotion (bar: 1000)",
        shown.len(),
        imported.as_millis(),
        promoted.as_millis()
    );
    ensure!(imported.max(promoted) < BAR, "a first block took longer than 1 s");
    Ok(())
}

fn text(first: FirstRead) -> String {
    format!("{} {}", first.opened.as_millis(), first.read.as_millis())
}
