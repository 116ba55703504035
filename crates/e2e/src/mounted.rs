//! A small file system that only those see who enter it, and that outlives the server on it.

use crate::child::{Guarded, bound};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What fills a file system up, in pieces of this many bytes.
const PIECE_BYTES: usize = 1 << 20;
const FILLER: &str = "filler";

/// The mount, with the process that keeps it.
#[derive(Debug)]
pub struct Mounted {
    holder: Guarded,
    folder: PathBuf,
}

impl Mounted {
    /// Mounts `mib` MiB of memory on `folder`.
    pub fn new(folder: &Path, mib: u32) -> Result<Self> {
        let script = format!("mount -t tmpfs -o size={mib}m none \"$0\" && echo up && exec sleep infinity");
        let mut command = bound("unshare");
        command.args(["--mount", "sh", "-c", &script]).arg(folder);
        let mut holder = Guarded::start(command.stdout(Stdio::piped()).stdin(Stdio::null()))?;
        let stdout = holder.child().stdout.take().context("the holder's output is a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim() == "up", "no file system could be mounted on {}", folder.display());
        Ok(Self { holder, folder: folder.to_owned() })
    }

    /// Makes `command`, which starts a program, start it where the file system is seen.
    pub fn enter(&self, command: &mut Command, program: &Path) {
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg("--").arg(program);
    }

    /// The folder as it is seen from outside.
    pub fn path(&self) -> PathBuf {
        let relative = self.folder.strip_prefix("/").expect("a temporary folder has an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(relative)
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.path().join(FILLER))?;
        let mut piece = vec![0x5a; PIECE_BYTES];
        while !piece.is_empty() {
            // What does not fit whole is tried in ever smaller pieces.
            if filler.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
        Ok(())
    }

    /// Gives the space back.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.path().join(FILLER))?)
    }
}
