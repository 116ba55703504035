//! `cargo xtask show [NAME]`: measures one of the project's claims on this machine.
//!
//! Each prints what it found as its last line and fails where the bar is missed. The last known
//! figures stand in `docs/evidence.md`, one row for each name (`cargo xtask tidy` compares).

use crate::binaries::{self, Build};
use crate::check::{run_tests, run_tests_with};
use crate::packages::{self, Purpose};
use crate::process::{cargo, run, workspace};
use crate::{image, lab};
use anyhow::{Context, Result, ensure};
use std::time::Instant;

/// One claim.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    about: &'static str,
    means: Means,
}

/// How a claim is measured.
#[derive(Debug)]
enum Means {
    /// The lab with two machines.
    Lab,
    /// One test program of a package.
    Tests { package: &'static str, test: &'static str },
    /// The same in its long form: the test writes its figure into a file that it is told.
    LongTest { package: &'static str, test: &'static str },
    /// An example of a package with the claim's name, which prints its figure itself.
    Example { package: &'static str },
    /// A program in `benches`, which prints its figure itself.
    Bench,
    /// The same, with a released `headwater` beside it that it starts.
    BenchOfServer,
}

/// All claims.
pub(crate) const CLAIMS: &[Claim] = &[
    claim("lab-once", "two diskless machines boot, write, reboot, and their writes are gone", Means::Lab),
    claim(
        "boot-matrix",
        "every boot path, initrd and rule for unknown devices, on machines in namespaces",
        Means::Tests { package: "headwater-e2e", test: "boot_matrix" },
    ),
    claim("nbd-identity", "clients that we did not write read the imported bytes over NBD", Means::Bench),
    claim("nbd-peers", "NBD against nbdkit, qemu-nbd and nbd-server", Means::Bench),
    claim(
        "import-kill",
        "kill -9 of the store and of a server at random moments of an import loses nothing",
        Means::BenchOfServer,
    ),
    claim("import-peers", "import against qemu-img convert", Means::Bench),
    claim(
        "bad-input",
        "damaged images, wrong addresses, missing packages: a clear message, nothing lost",
        Means::Tests { package: "headwater-e2e", test: "bad_input" },
    ),
    claim(
        "failing-disk",
        "drafts on a disk that fails, fills, tears and loses its power lose no confirmed flush",
        Means::Bench,
    ),
    claim("seal-cost", "a checkpoint of 1 GiB of changes against qemu-img commit", Means::Bench),
    claim(
        "model",
        "the rules of drafts and promotion in every order of steps; known schemes are found to lose bytes",
        Means::Example { package: "headwater-farm" },
    ),
    claim(
        "trap-one-server",
        "what a maintenance machine wrote is promoted, or the promotion is refused: with real machines",
        Means::Tests { package: "headwater-e2e", test: "trap" },
    ),
    claim(
        "version-kill",
        "kill -9 of the server in a loop of write, flush, checkpoint, seal, promote loses nothing",
        Means::BenchOfServer,
    ),
    claim(
        "instant-ops",
        "promote, revert, branch and merge on a vDisk of 1 TiB: under 50 ms, no data moved",
        Means::BenchOfServer,
    ),
    claim(
        "chain-depth",
        "reading a disk with 50 versions below it costs what it costs with one",
        Means::Bench,
    ),
    claim(
        "trap-three-servers",
        "the trap on three servers with slow links and real machines: the changes are booted, or it was refused",
        Means::LongTest { package: "headwater-e2e", test: "trap_three_servers" },
    ),
    claim(
        "etcd-away",
        "etcd away for 10 minutes: devices boot and read, changes are refused, all heals",
        Means::LongTest { package: "headwater-e2e", test: "etcd_away" },
    ),
    claim(
        "faults",
        "cut links, frozen and killed servers and etcd members, a full disk, flipped bytes, a lying peer: nothing is lost",
        Means::LongTest { package: "headwater-e2e", test: "faults" },
    ),
    claim(
        "limits",
        "20 Mbit/s and a closed window of replication are obeyed; bulk does not slow what devices wait for",
        Means::Bench,
    ),
    claim(
        "rejoin",
        "a server with an empty disk rejoins and serves a boot while it hydrates",
        Means::LongTest { package: "headwater-e2e", test: "rejoin" },
    ),
    claim(
        "sim",
        "three servers with the real rules and replication, every fault by chance: nothing is lost; flaws are found",
        Means::Example { package: "headwater-sim" },
    ),
    claim(
        "last-writer-wins",
        "the trap with plain files: the newer time wins, and a day of maintenance is nowhere",
        Means::Example { package: "headwater-sim" },
    ),
    claim(
        "lazy-first-read",
        "a version is read on another server within a second of its import or promotion, whatever its size",
        Means::BenchOfServer,
    ),
    claim(
        "replication-peers",
        "an OS update brought to other servers, against rsync, syncthing, casync and the bare delta by HTTP",
        Means::BenchOfServer,
    ),
];

const fn claim(name: &'static str, about: &'static str, means: Means) -> Claim {
    Claim { name, about, means }
}

impl Claim {
    /// Finds a claim by its name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        CLAIMS.iter().find(|claim| claim.name == name)
    }

    /// Sets up, measures, prints the figure; fails where the bar is missed.
    pub(crate) fn show(&self) -> Result<()> {
        packages::install(Purpose::Test)?;
        match self.means {
            Means::Lab => show_lab(self.name),
            Means::Tests { package, test } => show_tests(self.name, package, test),
            Means::LongTest { package, test } => show_long(self.name, package, test),
            Means::Example { package } => run(cargo().args([
                "run",
                "--release",
                "--quiet",
                "--package",
                package,
                "--example",
                self.name,
            ])),
            Means::Bench => show_bench(self.name),
            Means::BenchOfServer => {
                run(cargo().args(["build", "--release", "--package", "headwater"]))?;
                show_bench(self.name)
            }
        }
    }
}

/// Prints all claims with their last known figures.
pub(crate) fn list() -> Result<()> {
    let evidence = std::fs::read_to_string("docs/evidence.md").context("docs/evidence.md")?;
    for claim in CLAIMS {
        println!("{:14} {}", claim.name, claim.about);
        println!("{:14} last known: {}", "", figure(&evidence, claim.name).unwrap_or("none"));
    }
    Ok(())
}

/// The second cell of the row that begins with the name in backticks.
pub(crate) fn figure<'a>(evidence: &'a str, name: &str) -> Option<&'a str> {
    let head = format!("| `{name}` |");
    let row = evidence.lines().find_map(|line| line.strip_prefix(&head))?;
    row.split('|').next().map(str::trim).filter(|cell| !cell.is_empty())
}

fn show_bench(name: &str) -> Result<()> {
    run(cargo().args(["run", "--release", "--quiet", "--package", "headwater-benches", "--bin", name]))
}

fn show_lab(name: &str) -> Result<()> {
    let began = Instant::now();
    lab::run(&["--once".into()])?;
    let took = began.elapsed().as_secs_f64();
    println!("{name}: two machines booted, wrote, rebooted clean in {took:.0} s, set-up included");
    Ok(())
}

fn show_tests(name: &str, package: &str, test: &str) -> Result<()> {
    binaries::build(Build::Dev)?;
    image::make_all()?;
    let began = Instant::now();
    let (totals, passed) = run_tests(&["--package", package, "--test", test])?;
    println!("{name}: {totals}, {:.0} s", began.elapsed().as_secs_f64());
    ensure!(passed, "{name}: missed");
    Ok(())
}

fn show_long(name: &str, package: &str, test: &str) -> Result<()> {
    binaries::build(Build::Dev)?;
    image::make_all()?;
    let folder = workspace().join("target/e2e");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}.figure"));
    std::fs::write(&file, "")?;
    let variables = [("HEADWATER_FIGURE_FILE", file.as_path())];
    let (totals, passed) = run_tests_with(&["--package", package, "--test", test], &variables)?;
    let figure = std::fs::read_to_string(&file)?;
    match figure.trim() {
        "" => println!("{name}: {totals}"),
        figure => println!("{figure}"),
    }
    ensure!(passed, "{name}: missed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_the_cell_after_the_name() {
        let evidence = "| claim | figure |\n|---|---|\n| `lab-once` | 95 s | quiet |\n| `x` | |\n";
        assert_eq!(figure(evidence, "lab-once"), Some("95 s"));
        assert_eq!(figure(evidence, "x"), None);
        assert_eq!(figure(evidence, "y"), None);
    }
}
