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

/// Whoever writes, whoever promotes, whenever: what is promoted has every byte, on every server.
#[test]
fn in_every_order_a_promotion_is_refused_or_has_every_byte() -> Result<()> {
    let farm = farm_with_draft(Layout::default())?;
    let orders = (0..farm.count()).flat_map(|writer| (0..3).map(move |promoter| (writer, promoter)));
    for (pass, (writer, promoter)) in orders.enumerate() {
        if pass > 0 {
            farm.cli(promoter, &["version", "create", "office"])?;
        }
        let order = Order { farm: &farm, pass, writer, promoter };
        order.play().with_context(|| format!("{order:?}"))?;
    }
    Ok(())
}

/// One writer and one promoter; the version is the pass's, its parent the pass's before.
struct Order<'a> {
    farm: &'a Farm,
    pass: usize,
    writer: usize,
    promoter: usize,
}

impl std::fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |n| self.farm.name(n);
        write!(
            f,
            "version {}: {} writes, {} promotes",
            self.version(),
            name(self.writer),
            name(self.promoter)
        )
    }
}

impl Order<'_> {
    fn version(&self) -> String {
        (self.pass + 2).to_string()
    }

    /// Asks for the seal and the promotion, as an admin in a hurry does; whether both were done.
    fn promoted(&self) -> Result<bool> {
        for words in [&["seal"][..], &["promote"]] {
            let to: &[&str] = if words == ["promote"] { &["--to", "production"] } else { &[] };
            let version = self.version();
            let words = [&["version"], words, &["office", version.as_str()], to].concat();
            let output = self.farm.try_cli(self.promoter, &words)?;
            let said = String::from_utf8_lossy(&output.stderr);
            let sealed = said.contains("is sealed");
            ensure!(output.status.success() || sealed || said.contains("hint:"), "no hint: {said}");
            if !output.status.success() && !sealed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Only a promotion, of what is no more than begun.
    fn is_refused(&self, when: &str) -> Result<()> {
        let words = ["version", "promote", "office", &self.version(), "--to", "production"];
        let said = self.farm.refused(self.promoter, &words).context(when.to_owned())?;
        ensure!(said.contains("hint:"), "refused {when} without a hint: {said}");
        Ok(())
    }

    fn play(&self) -> Result<()> {
        let Self { farm, writer, promoter, .. } = *self;
        self.is_refused("before anybody has written")?;
        let words = ["session", "create", "office", "--version", &self.version(), "--write"];
        let session = self.session(writer, &words)?;
        let text = |key: &str| session[key].as_str().unwrap_or_default().to_owned();
        if writer != promoter {
            farm.cut_both(farm.host(writer), farm.host(promoter))?;
        }
        let half = |n: u32| format!("write -P {:#x} {}M 2M", self.pass + 0x40, 4 + 4 * self.pass as u32 + n);
        qemu_io(farm.host(writer), &text("uri"), &[&half(0), "flush"])?;
        self.is_refused("while it is written")?;
        ensure!(!self.promoted()?, "a draft that is written was sealed");
        qemu_io(farm.host(writer), &text("uri"), &[&half(2), "flush"])?;
        closed(farm, writer, &text("id"))?;
        // It may have come by the third server; if not, it is refused until the link is there.
        let at_once = self.promoted()?;
        farm.mend()?;
        if !at_once {
            farm.wait_for("the promotion", ARRIVAL, || self.promoted())?;
        }
        (0..farm.count()).try_for_each(|n| self.is_whole(n))
    }

    /// Opens a session as soon as the server has the draft's checkpoint.
    fn session(&self, n: usize, words: &[&str]) -> Result<serde_json::Value> {
        let mut session = serde_json::Value::Null;
        self.farm.wait_for("the session", ARRIVAL, || {
            session = self.farm.json(n, words)?;
            Ok(true)
        })?;
        Ok(session)
    }

    /// What this pass and all before it wrote, as a device of server `n` reads it.
    fn is_whole(&self, n: usize) -> Result<()> {
        let version = self.version();
        self.farm.wait_for("the promotion is known", ARRIVAL, || {
            Ok(self.farm.cli(n, &["version", "show", "office", &version])?.contains("<- boots"))
        })?;
        let session = self.session(n, &["session", "create", "office"])?;
        let text = |key: &str| session[key].as_str().unwrap_or_default().to_owned();
        let reads: Vec<String> =
            (0..=self.pass).map(|pass| format!("read -P {:#x} {}M 4M", pass + 0x40, 4 + 4 * pass)).collect();
        let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
        let read = qemu_io(self.farm.host(n), &text("uri"), &reads);
        closed(self.farm, n, &text("id"))?;
        read.with_context(|| format!("read on {}", self.farm.name(n)))
    }
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
