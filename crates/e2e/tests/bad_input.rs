//! What goes wrong at an admin's hands: each gets a clear message with a hint, and nothing is lost.
//!
//! "Nothing is lost" is looked at after each refusal: the vDisk that was there still is, no half
//! one is listed, and the server still answers.

use anyhow::{Context, Result, ensure};
use headwater_e2e::scene::{Dhcp, Place, Scene};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

#[test]
fn a_truncated_qcow2_is_refused() -> Result<()> {
    let bench = Bench::new(Place::Disk)?;
    let image = bench.qcow2("cut.qcow2")?;
    let len = fs::metadata(&image)?.len();
    OpenOptions::new().write(true).open(&image)?.set_len(len / 2)?;
    bench.is_refused(&image, &["damaged"])
}

#[test]
fn a_corrupt_qcow2_is_refused() -> Result<()> {
    let bench = Bench::new(Place::Disk)?;
    let image = bench.qcow2("corrupt.qcow2")?;
    // The header's bytes 40 to 47 say where the L1 table lies; its entries then point nowhere.
    let file = OpenOptions::new().read(true).write(true).open(&image)?;
    let mut offset = [0; 8];
    file.read_exact_at(&mut offset, 40)?;
    file.write_all_at(&[0x5a; 64], u64::from_be_bytes(offset))?;
    bench.is_refused(&image, &["damaged"])
}

#[test]
fn an_image_larger_than_the_free_space_is_refused() -> Result<()> {
    let bench = Bench::new(Place::SmallFileSystem)?;
    let image = bench.file("large.raw", &noise(96 * MIB))?;
    bench.is_refused(&image, &["can be used"])
}

#[test]
fn an_image_without_a_kernel_is_named_as_such() -> Result<()> {
    let bench = Bench::new(Place::Disk)?;
    let image = bench.ext4("no-kernel.raw", &[("etc/hostname", b"x"), ("usr/bin/true", b"")])?;
    bench.is_warned_of(&image, &["kernel"])
}

#[test]
fn an_image_without_the_nbd_module_is_named_as_such() -> Result<()> {
    let bench = Bench::new(Place::Disk)?;
    let files: [(&str, &[u8]); 5] = [
        ("boot/vmlinuz-6.1.0-1", b"a kernel"),
        ("boot/initrd.img-6.1.0-1", b"an initrd"),
        ("etc/os-release", b"ID=debian\n"),
        ("lib/modules/6.1.0-1/modules.dep", b""),
        ("lib/modules/6.1.0-1/modules.builtin", b""),
    ];
    let image = bench.ext4("no-nbd.raw", &files)?;
    bench.is_warned_of(&image, &["nbd"])
}

#[test]
fn a_mistyped_mac_address_is_refused() -> Result<()> {
    let bench = Bench::new(Place::Disk)?;
    let said = bench.refused(&["device", "add", "52:54:00:12:34"])?;
    ensure!(said.contains("10 hexadecimal digits instead of 12"), "{said}");
    let said = bench.refused(&["device", "add", "ff:ff:ff:ff:ff:ff"])?;
    ensure!(said.contains("no device has it"), "{said}");
    bench.nothing_is_lost()
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let bench = Bench::new(Place::Disk)?;
    let said = bench.scene.second_server()?;
    ensure!(said.contains("6900") && said.contains("hint:"), "{said}");
    bench.nothing_is_lost()
}

#[test]
fn missing_boot_loaders_are_named_with_their_package() -> Result<()> {
    let scene = Scene::empty(Dhcp::Full, Place::Disk, "loader_dir = \"/nonexistent\"\n")?;
    let log = scene.log();
    ensure!(log.contains("/nonexistent") && log.contains("ipxe"), "{log}");
    Ok(())
}

/// A server with one good vDisk, and a folder for bad images.
struct Bench {
    scene: Scene,
    folder: TempDir,
}

impl Bench {
    fn new(place: Place) -> Result<Self> {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        let bench = Self { scene: Scene::empty(Dhcp::Full, place, "")?, folder };
        let good = bench.file("good.raw", &noise(2 * MIB))?;
        bench.scene.cli(&["vdisk", "import", "good", &shown(&good)])?;
        Ok(bench)
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        File::create(&path)?.write_all(content)?;
        Ok(path)
    }

    fn qcow2(&self, name: &str) -> Result<PathBuf> {
        let raw = self.file("source.raw", &noise(8 * MIB))?;
        let path = self.folder.path().join(name);
        run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(raw).arg(&path))?;
        Ok(path)
    }

    /// A bare ext4 with these files.
    fn ext4(&self, name: &str, files: &[(&str, &[u8])]) -> Result<PathBuf> {
        let tree = self.folder.path().join("tree");
        for (path, content) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            fs::write(path, content)?;
        }
        let path = self.folder.path().join(name);
        let mut mke2fs = Command::new("/usr/sbin/mke2fs");
        run(mke2fs.args(["-q", "-t", "ext4", "-d"]).arg(&tree).arg(&path).arg("32M"))?;
        Ok(path)
    }

    fn is_refused(&self, image: &Path, words: &[&str]) -> Result<()> {
        let said = self.refused(&["vdisk", "import", "bad", &shown(image)])?;
        names_all(&said, words)?;
        self.nothing_is_lost()
    }

    /// The import succeeds, but says what will not work: such a disk may be wanted for its data.
    fn is_warned_of(&self, image: &Path, words: &[&str]) -> Result<()> {
        let output = self.scene.try_cli(&["vdisk", "import", "odd", &shown(image)])?;
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        names_all(&said, words)?;
        ensure!(self.scene.cli(&["vdisk", "list"])?.contains("good"), "the good vDisk is gone");
        Ok(())
    }

    fn refused(&self, words: &[&str]) -> Result<String> {
        let output = self.scene.try_cli(words)?;
        ensure!(!output.status.success(), "headwater {} was not refused", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn nothing_is_lost(&self) -> Result<()> {
        let list = self.scene.cli(&["vdisk", "list"])?;
        ensure!(list.contains("good") && !list.contains("bad"), "not as before:\n{list}");
        let out = self.folder.path().join("out.raw");
        self.scene.cli(&["vdisk", "export", "good", &shown(&out)])?;
        ensure!(fs::read(out)? == noise(2 * MIB), "the good vDisk's bytes have changed");
        Ok(())
    }
}

fn names_all(said: &str, words: &[&str]) -> Result<()> {
    let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
    ensure!(missing.is_empty() && said.contains("hint:"), "no word of {missing:?}, or no hint, in: {said}");
    Ok(())
}

/// Bytes without zero runs, the same every time: a linear congruential generator (Knuth, MMIX).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
