//! Import jobs: from an image to a vDisk that devices boot.
//!
//! The order makes every crash harmless: the store has the content durable and unclaimed, then the
//! record names it, then it is claimed. Whatever ends an import early, [`Share::settle`] removes
//! what it left.

use super::api_error::ApiError;
use super::audit;
use super::boot_files::inspect;
use super::farm::FarmError;
use super::jobs::{Job, Outcome, Step};
use super::state::{AppState, Shared};
use super::stores::Share;
use api::{ImageFormat, JobKind};
use axum::http::StatusCode;
use farm::rules::vdisk::{RegisterVDisk, name_is_free, register};
use farm::{Bootable, EventKind, NewEvent};
use image::format_of;
use model::Name;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::import::ImportPhase;
use store::{ImportError, ImportObserver, ImportOptions, ImportProgress, Imported, StoredVersion};

/// What to import, and as what.
pub(super) struct Import {
    pub(super) name: Name,
    pub(super) store: Option<Name>,
    pub(super) comment: String,
    pub(super) source: Source,
}

/// Where the image is.
pub(super) enum Source {
    /// A file on this server.
    File { path: PathBuf, format: Option<ImageFormat> },
    /// Bytes that arrive; how many, if known.
    Stream { bytes: Box<dyn Read + Send>, expected_bytes: Option<u64> },
}

/// Why there is no vDisk.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cancelled")]
    Cancelled,
    #[error(
        "{0}\nhint: nothing of it was kept; `qemu-img check` and `qemu-img info` say more about the file, copy it again"
    )]
    Damaged(image::ImageError),
    #[error(transparent)]
    Import(ImportError),
    #[error(
        "{path} is a {found} image, not {expected}\nhint: leave --format out, it is looked for in the file"
    )]
    Format { path: PathBuf, found: &'static str, expected: &'static str },
    #[error(
        "{path} cannot be read: {source}\nhint: the server reads the file, as its own user; `headwater vdisk import NAME - < FILE` sends it instead"
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Farm(#[from] FarmError),
    #[error("the imported version cannot be opened: {0}")]
    Version(#[from] store::VersionError),
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Cancelled => Self::Cancelled,
            ImportError::Image(error @ image::ImageError::Damaged(_)) => Self::Damaged(error),
            error => Self::Import(error),
        }
    }
}

/// Begins an import; refuses it before anything is read where the name is taken.
pub(super) fn start(state: &Shared, import: Import) -> Result<Arc<Job>, ApiError> {
    name_is_free(&state.farm.view(), &import.name)?;
    let Some(share) = state.stores.find(import.store.as_ref()).cloned() else {
        let asked = import.store.map(|name| name.to_string()).unwrap_or_default();
        let message = format!("this server has no share of store {asked}");
        return Err(ApiError::not_found(message, "`headwater store list` shows what it has"));
    };
    if state.shutdown.has_begun() {
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server stops", "try again later"));
    }
    let job = state.jobs.begin(JobKind::Import, import.name.as_str())?;
    audit::spawn(run(state.clone(), Arc::clone(&job), share, import));
    Ok(job)
}

async fn run(state: Shared, job: Arc<Job>, share: Arc<Share>, import: Import) {
    let name = import.name.clone();
    let outcome = match carry_out(&state, &job, &share, import).await {
        Ok(warning) => Outcome::Done { warning },
        // Whatever else went wrong on the way: a stream that is cancelled also breaks.
        Err(_) if job.is_cancelled() => Outcome::Cancelled,
        Err(Failure::Cancelled) => Outcome::Cancelled,
        Err(error) => Outcome::failed(&error),
    };
    share.settle(&state.farm).await;
    state.care.look_soon();
    let why = match &outcome {
        Outcome::Done { .. } => None,
        Outcome::Cancelled => Some("was cancelled".to_owned()),
        Outcome::Failed(error) => Some(format!("failed: {}", error.message)),
    };
    if let Some(why) = why {
        let message = format!("the import of vDisk {name} {why}");
        state.farm.event(NewEvent::new(EventKind::ImportFailed, &name, message));
    }
    state.jobs.end(&job, outcome);
}

/// Imports, registers, claims; answers what people should know though it succeeded.
async fn carry_out(
    state: &AppState,
    job: &Arc<Job>,
    share: &Arc<Share>,
    import: Import,
) -> Result<Option<String>, Failure> {
    let _relies_on_the_store = share.imports.read().await;
    let (worker, watched, source) = (Arc::clone(share), Arc::clone(job), import.source);
    let stored = tokio::task::spawn_blocking(move || {
        let imported = store_image(&worker, &watched, source)?;
        look_inside(&worker, &watched, imported)
    });
    let stored = stored.await.expect("an import answers with an error")?;
    if job.is_cancelled() {
        return Err(Failure::Cancelled);
    }
    let warning = match &stored.boot {
        Bootable::Linux { .. } => None,
        Bootable::No { reason } => Some(format!(
            "machines cannot boot from it: {reason}\nhint: install a kernel, initramfs-tools or dracut inside \
             the image and import it again; as a disk for data it can be streamed as it is"
        )),
    };
    let command = || stored.command(&import.name, &share.name, &state.server, &import.comment);
    state.farm.decide(|view, now| register(view, command(), now)).await?;
    let (worker, root) = (Arc::clone(share), stored.imported.root);
    let claimed = tokio::task::spawn_blocking(move || worker.store.claim(&root)).await;
    if let Err(error) = claimed.expect("claiming answers with an error") {
        tracing::error!(%error, "the imported version is claimed at the next start");
    }
    Ok(warning)
}

/// An image that is in the store.
struct Stored {
    imported: Imported,
    data_bytes: u64,
    boot: Bootable,
}

impl Stored {
    fn command(&self, name: &Name, store: &Name, server: &Name, comment: &str) -> RegisterVDisk {
        RegisterVDisk {
            name: name.clone(),
            store: store.clone(),
            server: server.clone(),
            root: self.imported.root,
            size: self.imported.size,
            data_bytes: self.data_bytes,
            boot: self.boot.clone(),
            comment: comment.to_owned(),
            by: audit::asker_text(),
        }
    }
}

fn store_image(share: &Share, job: &Job, source: Source) -> Result<Imported, Failure> {
    let (options, observer) = (ImportOptions::default(), Watching(job));
    Ok(match source {
        Source::File { path, format } => {
            check_format(&path, format)?;
            let image = image::open(&path).map_err(ImportError::from)?;
            share.store.import(image.as_ref(), &options, &observer)?
        }
        Source::Stream { mut bytes, expected_bytes } => {
            share.store.import_stream(&mut bytes, expected_bytes, &options, &observer)?
        }
    })
}

/// Refuses a file that is not what the admin says it is.
fn check_format(path: &Path, format: Option<ImageFormat>) -> Result<(), Failure> {
    let unreadable = |source| Failure::Unreadable { path: path.to_owned(), source };
    let mut beginning = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(64).read_to_end(&mut beginning).map_err(unreadable)?;
    let found = format_of(&beginning);
    let expected = match format {
        None => return Ok(()),
        Some(ImageFormat::Raw) => image::Format::Raw,
        Some(ImageFormat::Qcow2) => image::Format::Qcow2,
    };
    match found == expected {
        true => Ok(()),
        false => {
            let (path, found, expected) = (path.to_owned(), found.name(), expected.name());
            Err(Failure::Format { path, found, expected })
        }
    }
}

fn look_inside(share: &Share, job: &Job, imported: Imported) -> Result<Stored, Failure> {
    let size = imported.size.bytes();
    job.step(Step {
        phase: "looking for a kernel",
        done_bytes: size,
        total_bytes: Some(size),
        written_bytes: imported.stored_bytes,
    });
    let version: Arc<StoredVersion> = share.store.version(&imported.root)?;
    let data_bytes = version.stored_bytes();
    Ok(Stored { imported, data_bytes, boot: inspect(version) })
}

/// Tells a job how its import goes.
struct Watching<'a>(&'a Job);

impl ImportObserver for Watching<'_> {
    fn progress(&self, progress: ImportProgress) {
        let phase = match progress.phase {
            ImportPhase::Measuring => "measuring",
            ImportPhase::Copying => "importing",
            ImportPhase::Finishing => "making durable",
        };
        let ImportProgress { done_bytes, total_bytes, data_bytes: written_bytes, .. } = progress;
        self.0.step(Step { phase, done_bytes, total_bytes, written_bytes });
    }

    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}
