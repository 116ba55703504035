//! `headwater farm backup FILE`

use crate::cli::Context;
use crate::cli::job::Bar;
use crate::cli::output::{bytes, or_dash, time_of};
use anyhow::{Context as _, Result, bail};
use api::paths;
use farm_db::backup_file::Backup;
use reqwest::{Method, Response};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What is in a backup.
#[derive(Serialize)]
pub(super) struct Contents {
    file: String,
    farm: Option<String>,
    server: String,
    program: String,
    made_ms: u64,
    revision: u64,
    records: usize,
    bytes: u64,
}

impl Contents {
    /// Of a file of this many bytes.
    pub(super) fn new(file: &Path, backup: &Backup, bytes: usize) -> Self {
        let from = &backup.description;
        Self {
            file: file.display().to_string(),
            farm: from.farm.clone(),
            server: from.server.clone(),
            program: from.program.clone(),
            made_ms: from.made_ms,
            revision: backup.records.revision,
            records: backup.records.entries.len(),
            bytes: bytes as u64,
        }
    }

    /// For people.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("file", format!("{}, {}", self.file, bytes(self.bytes))),
            ("farm", or_dash(self.farm.as_ref())),
            ("made", format!("{} by {} (version {})", time_of(self.made_ms), self.server, self.program)),
            ("records", format!("{}, revision {}", self.records, self.revision)),
        ]
    }
}

/// Fetches a backup, checks it, and keeps it in a new file that only its owner reads.
pub(super) async fn run(context: &Context, file: &Path) -> Result<()> {
    if file.exists() {
        bail!("{} is there already\nhint: give a new name; no backup is overwritten", file.display());
    }
    let answer = context.client.send(context.client.request(Method::POST, paths::FARM_BACKUP)).await?;
    let content =
        received(context, answer).await.context("the server sent half of a backup\nhint: try again")?;
    let backup = Backup::decode(&content).context("what the server sent cannot be used")?;
    write(file, &content).with_context(|| format!("{} cannot be written", file.display()))?;
    context.output.one(&Contents::new(file, &backup, content.len()), |contents| {
        let secrets =
            "the farm's private key, password hashes and token hashes: keep it as safe as the servers";
        contents.fields().into_iter().chain([("secrets", secrets.to_owned())]).collect()
    })
}

/// All of an answer, while a bar shows how far it is.
async fn received(context: &Context, mut answer: Response) -> reqwest::Result<Vec<u8>> {
    let bar = Bar::new(context.output, answer.content_length());
    let mut content = Vec::new();
    while let Some(part) = answer.chunk().await? {
        content.extend_from_slice(&part);
        bar.advance(part.len() as u64);
    }
    bar.finish();
    Ok(content)
}

/// The file appears whole, or not; it is refused where there is one.
pub(super) fn write(file: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut staged = file.as_os_str().to_owned();
    staged.push(".new");
    // One that a crash left would keep its mode.
    let _ = std::fs::remove_file(&staged);
    let mut out = File::options().create_new(true).write(true).mode(0o600).open(&staged)?;
    out.write_all(content)?;
    out.sync_all()?;
    // Not a rename: that would replace a file that somebody made meanwhile.
    std::fs::hard_link(&staged, file)?;
    std::fs::remove_file(&staged)?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_for_its_owner_and_replaces_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("farm.backup");
        write(&file, b"1").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&file, b"2").is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"1");
    }
}
