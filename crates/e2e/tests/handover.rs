//! A draft changes servers: what is safe goes on anywhere, what is not is refused by name, and
//! nothing that was acknowledged is lost. Disks are written by an NBD client.

use anyhow::{Context, Result, ensure};
use headwater_e2e::client::qemu_io;
use headwater_e2e::farm::{Farm, Layout};
use std::time::Duration;

/// For some MiB and some records to reach every server, on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(90);

/// A disk of 64 MiB with bytes of its own, on all servers, and a draft of it: version 2.
fn farm_with_draft(layout: Layout) -> Result<Farm> {
    let farm = Farm::new(layout)?;
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let image = folder.path().join("base.raw");
    std::fs::write(&image, vec![0x11_u8; 4 << 20])?;
    std::fs::File::options().write(true).open(&image)?.set_len(64 << 20)?;
    farm.cli(0, &["vdisk", "import", "office", image.to_str().context("a path")?])?;
    farm.wait_until_complete("office", 1, ARRIVAL)?;
    farm.cli(0, &["version", "create", "office"])?;
    Ok(farm)
}

/// A session that writes to the draft on server `n`: its id and its disk's address.
fn opened(farm: &Farm, n: usize) -> Result<(String, String)> {
    let words = ["session", "create", "office", "--version", "2", "--write"];
    let mut opened = None;
    farm.wait_for(&format!("the draft opens on {}", farm.name(n)), ARRIVAL, || {
        opened = Some(farm.json(n, &words)?);
        Ok(true)
    })?;
    let text = |key: &str| opened.as_ref().and_then(|view| view[key].as_str()).unwrap_or_default().to_owned();
    Ok((text("id"), text("uri")))
}

fn closed(farm: &Farm, n: usize, session: &str) -> Result<()> {
    farm.cli(n, &["session", "close", session]).map(drop)
}

/// Whether version `version` has `byte` at the 8 MiB after `offset_mib` as server `n` reads it.
fn reads(farm: &Farm, n: usize, version: u32, byte: u8, offset_mib: u32) -> Result<()> {
    let view = farm.json(n, &["session", "create", "office", "--version", &version.to_string()])?;
    let uri = view["uri"].as_str().context("a session has an address")?;
    let read = qemu_io(farm.host(n), uri, &[&format!("read -P {byte:#x} {offset_mib}M 8M")]);
    closed(farm, n, view["id"].as_str().unwrap_or_default())?;
    read.with_context(|| format!("on {}", farm.name(n)))
}

#[test]
fn a_draft_goes_on_anywhere_and_is_promoted_anywhere_with_every_byte() -> Result<()> {
    let farm = farm_with_draft(Layout::default())?;
    let (session, uri) = opened(&farm, 2)?;
    qemu_io(farm.host(2), &uri, &["write -P 0x33 8M 8M", "flush"])?;

    // Unsaved bytes are on pvs03: nobody else goes on, seals or promotes, and all say why.
    for words in [
        &["session", "create", "office", "--version", "2", "--write"][..],
        &["version", "seal", "office", "2"],
        &["version", "promote", "office", "2", "--to", "production"],
    ] {
        let said = farm.refused(0, words)?;
        ensure!(said.contains("hint:"), "{words:?} was refused without a hint: {said}");
    }
    let said = farm.refused(0, &["version", "seal", "office", "2"])?;
    ensure!(said.contains("pvs03"), "the holder is not named: {said}");
    ensure!(farm.cli(0, &["version", "show", "office", "2"])?.contains("on server pvs03"));

    closed(&farm, 2, &session)?;
    let (session, uri) = opened(&farm, 0)?;
    qemu_io(farm.host(0), &uri, &["read -P 0x33 8M 8M", "write -P 0x44 16M 8M", "flush"])?;
    closed(&farm, 0, &session)?;

    let (session, uri) = opened(&farm, 1)?;
    qemu_io(farm.host(1), &uri, &["read -P 0x33 8M 8M", "read -P 0x44 16M 8M", "write -P 0x55 24M 8M"])?;
    closed(&farm, 1, &session)?;
    farm.wait_for("the seal on pvs01", ARRIVAL, || {
        Ok(farm.try_cli(0, &["version", "seal", "office", "2"])?.status.success())
    })?;
    farm.cli(0, &["version", "promote", "office", "2", "--to", "production"])?;
    for n in 0..farm.count() {
        for (byte, offset_mib) in [(0x33, 8), (0x44, 16), (0x55, 24)] {
            reads(&farm, n, 2, byte, offset_mib)?;
        }
    }
    farm.wait_until_complete("office", 2, ARRIVAL)?;
    let content = farm.content(0, "office", 2)?;
    ensure!((1..farm.count()).all(|n| farm.content(n, "office", 2).is_ok_and(|other| other == content)));
    Ok(())
}

#[test]
fn an_open_draft_comes_to_the_other_servers_while_it_is_written() -> Result<()> {
    let farm = farm_with_draft(Layout { servers: 2, ..Layout::default() })?;
    farm.cli(0, &["vdisk", "set", "office", "--checkpoint-every", "1s", "--checkpoint-after", "64MiB"])?;
    farm.cut_both(farm.host(0), farm.host(1))?;
    let (_, uri) = opened(&farm, 1)?;
    qemu_io(farm.host(1), &uri, &["write -P 0x33 8M 8M", "flush"])?;
    let lag = |n: usize| {
        Ok::<_, anyhow::Error>(farm.json(n, &["version", "show", "office", "2"])?["draft"].clone())
    };
    let saved = || Ok(lag(1)?["dirty"].is_null());
    farm.wait_for("the checkpoint", ARRIVAL, saved)?;
    let behind = lag(1)?;
    ensure!(!behind["alone_since_ms"].is_null() && behind["alone_bytes"].as_u64() > Some(0), "{behind}");
    ensure!(!lag(0)?["alone_since_ms"].is_null(), "the other server does not show it");

    farm.mend()?;
    farm.wait_for("nothing is on one server only", ARRIVAL, || Ok(lag(0)?["alone_since_ms"].is_null()))?;
    ensure!(farm.is_complete(0, "office", 2)?, "the open draft's checkpoint is not here");
    // The writer is still connected all the time.
    qemu_io(farm.host(1), &uri, &["read -P 0x33 8M 8M", "write -P 0x44 16M 1M", "flush"])
}

#[test]
fn the_killed_holder_goes_on_and_another_server_does_only_after_a_discard_that_can_be_undone() -> Result<()> {
    let mut farm = farm_with_draft(Layout { servers: 2, ..Layout::default() })?;
    let (_, uri) = opened(&farm, 1)?;
    qemu_io(farm.host(1), &uri, &["write -P 0x33 8M 8M", "flush"])?;
    farm.kill(1)?;
    let refused = ["session", "create", "office", "--version", "2", "--write"];
    ensure!(farm.refused(0, &refused)?.contains("pvs02"), "the holder is not named");

    farm.start(1)?;
    // The session outlives its server, and so does what it wrote.
    qemu_io(farm.host(1), &uri, &["read -P 0x33 8M 8M"])?;
    farm.cli(1, &["version", "checkpoint", "office", "2"])?;
    farm.wait_for("the checkpoint on pvs01", ARRIVAL, || farm.is_complete(0, "office", 2))?;
    qemu_io(farm.host(1), &uri, &["write -P 0x44 8M 8M", "flush"])?;
    farm.kill(1)?;

    let words = ["version", "show", "office", "2"];
    let draft = farm.json(0, &words)?["draft"].clone();
    let epochs = format!("{}-{}", draft["dirty"]["from_epoch"], draft["epoch"]);
    farm.cli(0, &["version", "release", "office", "2"])?;
    let draft = farm.json(0, &words)?["draft"].clone();
    let now = format!("{}-{}", draft["dirty"]["from_epoch"], draft["epoch"]);
    let wrong = ["version", "discard", "office", "2", "--server", "pvs02", "--epochs", &epochs];
    ensure!(epochs == now || !farm.refused(0, &wrong)?.is_empty(), "other epochs were discarded");
    farm.cli(0, &["version", "discard", "office", "2", "--server", "pvs02", "--epochs", &now])?;
    let (session, uri) = opened(&farm, 0)?;
    qemu_io(farm.host(0), &uri, &["read -P 0x33 8M 8M", "write -P 0x66 16M 8M", "flush"])?;
    closed(&farm, 0, &session)?;

    farm.start(1)?;
    let mut epoch = String::new();
    farm.wait_for("the discarded bytes are kept aside", ARRIVAL, || {
        let orphans = farm.json(1, &["version", "orphans", "office"])?;
        epoch = orphans[0]["to_epoch"].to_string();
        Ok(orphans[0]["state"] == "kept")
    })?;
    farm.cli(1, &["version", "restore-orphan", "office", "2", &epoch, "saved"])?;
    let view = farm.json(1, &["session", "create", "saved", "--version", "1"])?;
    qemu_io(farm.host(1), view["uri"].as_str().unwrap_or_default(), &["read -P 0x44 8M 8M"])
}
