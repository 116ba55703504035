//! The trap that Headwater was made for, with plain files: three directories, and a loop that
//! copies whatever has the newer time over the older, as DFS-R does for PVS stores.
//!
//! An admin makes a maintenance version on pvs01. The maintenance machine is sent to pvs03 and
//! writes there; as long as it runs, its file is locked and nothing is copied onto or from it. The
//! admin promotes the version on pvs01, which touches that server's file. When the machine has shut
//! down, the newer file wins: the empty one. Real files, times set by hand, so that it happens the
//! same way each time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const SERVERS: [&str; 3] = ["pvs01", "pvs02", "pvs03"];
const VERSION: &str = "win11.1.avhdx";
const LOCK: &str = "win11.1.lok";

/// What the maintenance machine wrote, and was told is safe.
pub const WRITTEN: &[u8] = b"a day of updates and installed applications";
const EMPTY: &[u8] = b"header: maintenance\n";
const PROMOTED: &[u8] = b"header: production\n";

/// What each server has at the end, and what happened on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The version's bytes on each server.
    pub files: Vec<Vec<u8>>,
    /// One line for each step.
    pub steps: Vec<String>,
}

impl Story {
    /// On how many servers the maintenance machine's bytes are still there.
    pub fn copies_of_the_work(&self) -> usize {
        let has = |file: &&Vec<u8>| file.windows(WRITTEN.len()).any(|part| part == WRITTEN);
        self.files.iter().filter(has).count()
    }
}

/// Plays it in an empty directory.
pub fn play(directory: &Path) -> io::Result<Story> {
    let servers = SERVERS.map(|server| directory.join(server));
    servers.iter().try_for_each(fs::create_dir)?;
    let mut steps = Vec::new();
    put(&servers[0], EMPTY, 8)?;
    steps.push("08:00 an admin makes a maintenance version on pvs01".to_owned());
    replicate(&servers, &mut steps)?;
    File::create(servers[2].join(LOCK))?;
    put(&servers[2], &[EMPTY, WRITTEN].concat(), 16)?;
    steps.push("16:00 the maintenance machine has written all day on pvs03, whose file is locked".to_owned());
    replicate(&servers, &mut steps)?;
    put(&servers[0], PROMOTED, 17)?;
    steps.push("17:00 the admin promotes the version on pvs01, which touches the file there".to_owned());
    replicate(&servers, &mut steps)?;
    fs::remove_file(servers[2].join(LOCK))?;
    steps.push("17:05 the maintenance machine has shut down; its file is closed".to_owned());
    replicate(&servers, &mut steps)?;
    let files = servers.iter().map(|server| fs::read(server.join(VERSION))).collect::<io::Result<_>>()?;
    Ok(Story { files, steps })
}

fn put(server: &Path, bytes: &[u8], hour: u64) -> io::Result<()> {
    let mut file = File::create(server.join(VERSION))?;
    file.write_all(bytes)?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600))
}

/// Copies until nothing is newer anywhere; a locked file is left alone.
fn replicate(servers: &[PathBuf; 3], steps: &mut Vec<String>) -> io::Result<()> {
    for from in servers {
        for to in servers {
            let (source, target) = (from.join(VERSION), to.join(VERSION));
            let locked = from.join(LOCK).exists() || to.join(LOCK).exists();
            if locked || from == to || time(&source)? <= time(&target)? {
                continue;
            }
            fs::copy(&source, &target)?;
            let modified = fs::metadata(&source)?.modified()?;
            File::options().append(true).open(&target)?.set_modified(modified)?;
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            steps.push(format!("      the newer file wins: {} replaces {}'s", name(from), name(to)));
        }
    }
    Ok(())
}

/// When a file was last written; nothing is older than a file that is not there.
fn time(path: &Path) -> io::Result<Option<SystemTime>> {
    match fs::metadata(path) {
        Ok(metadata) => metadata.modified().map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
