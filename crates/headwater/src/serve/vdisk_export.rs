//! Export jobs: from a version to a file.

use super::api_error::ApiError;
use super::jobs::{Job, Outcome, Step};
use super::state::Shared;
use api::{ExportVDisk, ImageFormat, JobKind};
use image::{ImageError, ImageReader, Run};
use model::{Name, Root, VersionNumber};
use std::io;
use std::path::Path;
use std::sync::Arc;
use store::Store;

/// Begins to write a version into a new file on this server.
pub(super) fn start(state: &Shared, name: &Name, request: ExportVDisk) -> Result<Arc<Job>, ApiError> {
    let (store, root) = find(state, name, request.version)?;
    if !request.path.is_absolute() {
        let message = format!("{} is not an absolute path", request.path.display());
        return Err(ApiError::bad_request(message, "the server does not know where you are: begin with /"));
    }
    let job = state.jobs.begin(JobKind::Export, name.as_str())?;
    let (jobs, running) = (Arc::clone(&state.jobs), Arc::clone(&job));
    tokio::task::spawn_blocking(move || {
        let outcome = match export(&store, root, &request, &running) {
            Ok(()) => Outcome::Done { warning: None },
            Err(_) if running.is_cancelled() => Outcome::Cancelled,
            Err(error) => Outcome::failed(&error),
        };
        jobs.end(&running, outcome);
    });
    Ok(job)
}

/// The store and content of a version; of the one in production where none is asked for.
fn find(state: &Shared, name: &Name, version: Option<u32>) -> Result<(Arc<Store>, Root), ApiError> {
    let view = state.farm.view();
    let none = |what: String| ApiError::not_found(what, "`headwater vdisk list` shows what there is");
    let vdisk = view.vdisks.get(name).ok_or_else(|| none(format!("there is no vDisk {name}")))?;
    let found = match version {
        Some(number) => view.versions.get(&(name.clone(), VersionNumber(number))),
        None => view.production_of(name),
    };
    let found = found.ok_or_else(|| none(format!("vDisk {name} has no such version")))?;
    let share = state.stores.find(Some(&vdisk.store));
    let share = share.ok_or_else(|| none(format!("store {} is not on this server", vdisk.store)))?;
    Ok((Arc::clone(&share.store), found.root))
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Version(#[from] store::VersionError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("{0} exists already\nhint: choose another name, or move it away: nothing is overwritten")]
    Exists(String),
}

fn export(store: &Store, root: Root, request: &ExportVDisk, job: &Job) -> Result<(), ExportError> {
    let path: &Path = &request.path;
    if path.symlink_metadata().is_ok() {
        return Err(ExportError::Exists(path.display().to_string()));
    }
    let version = store.version(&root)?;
    let watched = Watched { version: version.as_ref(), job };
    match request.format {
        ImageFormat::Raw => image::export_raw(&watched, path)?,
        ImageFormat::Qcow2 => image::export_qcow2(&watched, path)?,
    }
    Ok(())
}

/// A version that tells a job how far it was read, and stops when the job is cancelled.
struct Watched<'a> {
    version: &'a dyn ImageReader,
    job: &'a Job,
}

impl Watched<'_> {
    fn at(&self, offset: u64) -> Result<(), ImageError> {
        if self.job.is_cancelled() {
            let (context, source) =
                ("the export was cancelled".to_owned(), io::ErrorKind::Interrupted.into());
            return Err(ImageError::Io { context, source });
        }
        let total_bytes = Some(self.version.size_bytes());
        self.job.step(Step { phase: "exporting", done_bytes: offset, total_bytes, written_bytes: offset });
        Ok(())
    }
}

impl ImageReader for Watched<'_> {
    fn size_bytes(&self) -> u64 {
        self.version.size_bytes()
    }

    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError> {
        self.at(offset)?;
        self.version.run_at(offset, limit)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        self.at(offset)?;
        self.version.read_at(offset, buffer)
    }
}
