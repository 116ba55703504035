//! Clients that we did not write (`qemu-io`, `curl`), for tests that need no whole machine.

use crate::network::Host;
use anyhow::{Context, Result, ensure};
use std::process::Stdio;

/// Runs `commands` of `qemu-io`, one after the other, against the disk at `uri`; fails where one
/// of them does, also where a pattern is not the one that was read.
///
/// Useful commands: `write -P 0x5a OFFSET LENGTH`, `flush`, `read -P 0x5a OFFSET LENGTH`.
pub fn qemu_io(host: &Host, uri: &str, commands: &[&str]) -> Result<()> {
    let output = run(host, uri, commands)?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let failed = ["failed", "error", "Pattern verification"].iter().any(|word| said.contains(word));
    ensure!(output.status.success() && !failed, "qemu-io {}: {}", commands.join("; "), said.trim());
    Ok(())
}

fn run(host: &Host, uri: &str, commands: &[&str]) -> Result<std::process::Output> {
    let mut command = host.command("qemu-io");
    command.args(["-f", "raw"]);
    if !commands.iter().any(|command| command.starts_with("write")) {
        // It would ask to write, which a version that is shared refuses.
        command.arg("-r");
    }
    for words in commands {
        command.args(["-c", words]);
    }
    let output = command.arg(uri).stdin(Stdio::null()).output();
    output.context("could not start qemu-io\nhint: `cargo xtask setup` installs qemu-utils")
}

/// What a device gets that boots from a server, up to its disk.
#[derive(Clone, Debug)]
pub struct Booted {
    /// Bytes of kernel and initrd.
    pub fetched_bytes: u64,
    /// The disk's address, as the boot plan says.
    pub uri: String,
}

/// Boots as a device's loader and agent do, without the machine: script, kernel, initrd, plan.
///
/// `server` is the server's address; `mac` that of a device that may boot.
pub fn boot(host: &Host, server: &str, mac: &str) -> Result<Booted> {
    let script = fetch(host, &format!("http://{server}:6900/boot/v1/script?mac={mac}"))?;
    let script = String::from_utf8_lossy(&script).into_owned();
    let url = |what: &str| {
        let found = script.split_whitespace().find(|word| word.contains(&format!("/boot/v1/{what}/")));
        found.map(str::to_owned).with_context(|| format!("no {what} in the script:\n{script}"))
    };
    let (kernel, initrd) = (url("kernel")?, url("initrd")?);
    let fetched = [&kernel, &initrd].map(|url| fetch(host, url).map(|bytes| bytes.len() as u64));
    let [kernel_bytes, initrd_bytes] = fetched;
    let plan: serde_json::Value =
        serde_json::from_slice(&fetch(host, &kernel.replace("/boot/v1/kernel/", "/boot/v1/plan/"))?)?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("a plan has texts");
    let (nbd, export) = (text(&plan["servers"][0]["nbd"])?, text(&plan["export"])?);
    Ok(Booted { fetched_bytes: kernel_bytes? + initrd_bytes?, uri: format!("nbd://{nbd}/{export}") })
}

fn fetch(host: &Host, url: &str) -> Result<Vec<u8>> {
    let mut command = host.command("curl");
    command.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "60", url]);
    let output = command.stdin(Stdio::null()).output().context("could not start curl")?;
    let said =
        || String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{url}: {}", said());
    Ok(output.stdout)
}
