//! `headwater vdisk import NAME FILE|-`

use super::{Format, find, show};
use crate::cli::job::{Bar, follow};
use crate::cli::{Context, Stopped};
use crate::client::ClientError;
use anyhow::Result;
use api::{ImportVDisk, JobKind, JobView, VDiskView, paths};
use bytes::Bytes;
use clap::Args;
use model::Name;
use reqwest::{Body, Method};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How much of standard input is sent at a time.
const PIECE: usize = 256 * 1024;
/// How many pieces are read ahead.
const AHEAD: usize = 8;
/// How often it is looked whether the server has undone a stopped import.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Makes a vDisk of a disk image: its version 1, in production.
#[derive(Args)]
pub(crate) struct Import {
    /// The new vDisk's name
    name: Name,
    /// The image, a file that the server can read; - = standard input, raw
    file: PathBuf,
    /// The image's format [default: looked for in the file]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The store to keep it in [default: the server's first]
    #[arg(long)]
    store: Option<Name>,
    /// What to say about version 1
    #[arg(long, default_value = "")]
    comment: String,
}

impl Import {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let name = self.name.clone();
        if self.file == Path::new("-") {
            self.send(context).await?
        } else {
            self.name_file(context).await?
        }
        show(context, &find(context, &name).await?)
    }

    /// Has the server read the file.
    async fn name_file(self, context: &Context) -> Result<()> {
        let path = absolute(&self.file)?;
        let Self { name, format, store, comment, .. } = self;
        let request = ImportVDisk { name, path, format: format.map(Into::into), store, comment };
        follow(context, context.client.post(paths::VDISKS, &request)).await
    }

    /// Sends standard input.
    async fn send(self, context: &Context) -> Result<()> {
        anyhow::ensure!(
            self.format != Some(Format::Qcow2),
            "a qcow2 image cannot be read from front to back\n\
             hint: name the file, or convert it on the way: qemu-img convert -O raw IMAGE /dev/stdout"
        );
        let expected = stdin_bytes();
        let bar = Bar::new(context.output, expected);
        let mut query = vec![("comment", self.comment.clone())];
        query.extend(self.store.as_ref().map(|store| ("store", store.to_string())));
        query.extend(expected.map(|bytes| ("bytes", bytes.to_string())));
        let path = paths::fill(paths::VDISK_CONTENT, &self.name);
        let body = Body::wrap_stream(stdin(bar.clone()));
        let request = context.client.request(Method::PUT, &path).query(&query).body(body);
        tokio::select! {
            done = context.client.json::<VDiskView>(request) => {
                bar.finish();
                done?;
                Ok(())
            }
            _ = tokio::signal::ctrl_c() => {
                bar.finish();
                Err(stopped(context, &self.name).await?.into())
            }
        }
    }
}

/// The file as the server must name it: it does not know our directory.
fn absolute(file: &Path) -> Result<PathBuf> {
    let cannot =
        |error| anyhow::anyhow!("{} cannot be read: {error}\nhint: is its name right?", file.display());
    file.canonicalize().map_err(cannot)
}

/// How long standard input is, where that is a file.
fn stdin_bytes() -> Option<u64> {
    let stat = rustix::fs::fstat(std::io::stdin()).ok()?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    is_file.then(|| u64::try_from(stat.st_size).ok()).flatten()
}

/// Standard input piece by piece, read on a thread of its own, which may block for ever.
fn stdin(bar: Bar) -> ReceiverStream<std::io::Result<Bytes>> {
    let (pieces, stream) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = (&mut stdin).take(PIECE as u64).read_to_end(&mut piece);
            if matches!(read, Ok(0)) {
                return;
            }
            bar.advance(piece.len() as u64);
            let failed = read.is_err();
            if pieces.blocking_send(read.map(|_| piece.into())).is_err() || failed {
                return;
            }
        }
    });
    ReceiverStream::new(stream)
}

/// The server notices that nobody sends any more; waits until it has undone what it had.
async fn stopped(context: &Context, name: &Name) -> Result<Stopped, ClientError> {
    let running = |job: &JobView| {
        (job.kind, job.subject.as_str()) == (JobKind::Import, name.as_str()) && !job.state.is_final()
    };
    while context.client.get::<Vec<JobView>>(paths::JOBS).await?.iter().any(running) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(Stopped(format!("the import of vDisk {name} was cancelled; nothing of it is left")))
}
