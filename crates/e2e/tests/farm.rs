//! The harness of several servers: what one imports all get, what breaks is mended.

use anyhow::{Context, Result, ensure};
use headwater_e2e::farm::{Farm, Layout};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// For some MiB to reach every server, on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(90);

#[test]
fn what_one_server_imports_the_others_get_and_have_the_same_bytes() -> Result<()> {
    let farm = Farm::new(Layout::default())?;
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let image = image(folder.path(), 1, 5 << 20)?;
    farm.cli(0, &["vdisk", "import", "office", &image])?;
    farm.wait_until_complete("office", 1, ARRIVAL)?;
    let first = farm.content(0, "office", 1)?;
    for n in 1..farm.count() {
        ensure!(farm.content(n, "office", 1)? == first, "{} has other bytes", farm.name(n));
    }
    Ok(())
}

#[test]
fn a_link_that_is_cut_or_slow_only_delays() -> Result<()> {
    let mut farm = Farm::new(Layout { servers: 2, etcd_members: 3, ..Layout::default() })?;
    let folder = tempfile::tempdir_in("/var/tmp")?;
    farm.cut_both(farm.host(0), farm.host(1))?;
    farm.cli(0, &["vdisk", "import", "cut", &image(folder.path(), 1, 1 << 20)?])?;
    farm.etcd.kill_member(1)?;
    ensure!(!farm.is_complete(1, "cut", 1)?, "bytes came over a link that is cut");
    farm.mend()?;
    farm.wait_until_complete("cut", 1, ARRIVAL)?;

    farm.limit(0, 8.0)?;
    let began = Instant::now();
    farm.cli(0, &["vdisk", "import", "slow", &image(folder.path(), 2, 4 << 20)?])?;
    farm.wait_until_complete("slow", 1, ARRIVAL)?;
    ensure!(began.elapsed() > Duration::from_secs(3), "4 MiB came in {:?} at 1 MB/s", began.elapsed());
    farm.unlimit(0)?;

    farm.freeze(1)?;
    farm.cli(0, &["vdisk", "import", "frozen", &image(folder.path(), 3, 1 << 20)?])?;
    farm.thaw(1)?;
    farm.wait_until_complete("frozen", 1, ARRIVAL)?;
    farm.kill(1)?;
    farm.cli(0, &["vdisk", "import", "killed", &image(folder.path(), 4, 1 << 20)?])?;
    farm.start(1)?;
    farm.wait_until_complete("killed", 1, ARRIVAL)?;
    ensure!(farm.content(1, "killed", 1)? == farm.content(0, "killed", 1)?);
    Ok(())
}

/// A raw image of 64 MiB with `data_bytes` of bytes that no other seed gives; its path.
fn image(folder: &Path, seed: u64, data_bytes: usize) -> Result<String> {
    let path = folder.join(format!("{seed}.raw"));
    let file = std::fs::File::create(&path)?;
    file.set_len(64 << 20)?;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..data_bytes / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    file.write_all_at(&words.collect::<Vec<u8>>(), 1 << 20)?;
    path.to_str().map(str::to_owned).context("a path of a test is text")
}
