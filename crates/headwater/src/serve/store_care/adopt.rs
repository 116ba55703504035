//! Adopting files that somebody brought by other means.

use crate::serve::api_error::ApiError;
use crate::serve::jobs::{Job, Outcome, Step};
use crate::serve::state::Shared;
use crate::serve::stores::Share;
use api::JobKind;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::AdoptError;

/// The most files of a directory that are adopted at a time: the store keeps as many.
const MOST_FILES: usize = 256;

/// Why nothing was adopted.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{path} cannot be read: {source}\nhint: the server reads it, as its own user")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{0} is a directory without layers\nhint: name a disk image, or the directory of a store, which has the directory layers"
    )]
    NoStore(PathBuf),
    #[error(transparent)]
    Adopt(#[from] AdoptError),
}

/// Begins to hash `path` and to copy from it what `share` lacks.
pub(super) fn start(state: &Shared, share: Arc<Share>, path: PathBuf) -> Result<Arc<Job>, ApiError> {
    if !path.is_absolute() {
        let message = format!("{} is not an absolute path", path.display());
        return Err(ApiError::bad_request(message, "the server does not know where you are: begin with /"));
    }
    let job = state.jobs.begin(JobKind::Adopt, share.name.as_str())?;
    let (state, running) = (state.clone(), Arc::clone(&job));
    tokio::task::spawn_blocking(move || {
        let outcome = match adopt(&state, &share, &path, &running) {
            Ok(()) => Outcome::Done { warning: None },
            Err(Failure::Adopt(AdoptError::Cancelled)) => Outcome::Cancelled,
            Err(error) => Outcome::failed(&error),
        };
        state.jobs.end(&running, outcome);
    });
    Ok(job)
}

fn adopt(state: &Shared, share: &Share, path: &Path, job: &Job) -> Result<(), Failure> {
    let files = files_of(path)?;
    let before = share.store.taken_bytes();
    let mut found = 0;
    for (number, file) in files.iter().enumerate() {
        let image = image::open(file).map_err(AdoptError::from)?;
        let total_bytes = Some(image.size_bytes());
        let phase = if files.len() == 1 { "hashing" } else { "hashing layers" };
        let go_on = |done_bytes| {
            job.step(Step { phase, done_bytes, total_bytes, written_bytes: 0 });
            !job.is_cancelled()
        };
        found += share.store.adopt(file, image, &go_on)?;
        tracing::info!(file = %file.display(), number, "adopted a file");
    }
    job.step(Step { phase: "copying", done_bytes: found, total_bytes: Some(found), written_bytes: 0 });
    state.replication.copy_seeds();
    let written_bytes = share.store.taken_bytes() - before;
    job.step(Step { phase: "copied", done_bytes: found, total_bytes: Some(found), written_bytes });
    Ok(())
}

/// The file itself, or the data of every layer of a store's directory: each is a sparse raw image.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |source| Failure::Unreadable { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let layers = std::fs::read_dir(path.join("layers")).map_err(|_| Failure::NoStore(path.to_owned()))?;
    let data = layers.filter_map(Result::ok).map(|layer| layer.path().join("data"));
    let files: Vec<PathBuf> = data.filter(|data| data.is_file()).take(MOST_FILES).collect();
    match files.is_empty() {
        true => Err(Failure::NoStore(path.to_owned())),
        false => Ok(files),
    }
}
