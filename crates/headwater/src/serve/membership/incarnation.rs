//! How often this server has started, in a file that rises with the record.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

const FILE: &str = "incarnation";

/// Counts a start, durably, before anybody hears of it; answers the number.
pub(super) fn count(directory: &Path) -> Result<u64> {
    let path = directory.join(FILE);
    let before = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().with_context(|| {
            format!("{} has no number in it\nhint: remove this server and join it again", path.display())
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let next: u64 = before + 1;
    write(&path, next).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(next)
}

fn write(path: &Path, number: u64) -> std::io::Result<()> {
    let staged = path.with_extension("new");
    let mut file = File::create(&staged)?;
    writeln!(file, "{number}")?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    File::open(path.parent().expect("a file in a directory"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_counted_and_rubbish_is_no_number() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(count(directory.path()).unwrap(), 1);
        assert_eq!(count(directory.path()).unwrap(), 2);
        fs::write(directory.path().join(FILE), "many").unwrap();
        assert!(count(directory.path()).unwrap_err().to_string().contains("hint: "));
    }
}
