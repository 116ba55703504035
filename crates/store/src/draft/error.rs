//! Why something cannot be done with a draft.

use super::name::DraftName;
use crate::layout::StoreError;
use crate::version::{ChunkError, VersionError};
use std::io;

/// Why a request or an operation on a draft failed.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// No draft has this name.
    #[error("this store has no draft {0}")]
    Missing(DraftName),
    /// A draft of this name is there already.
    #[error("this store has a draft {0} already")]
    Exists(DraftName),
    /// The draft's files contradict themselves; what they hold is kept as it is.
    #[error(
        "draft {name} is damaged: {reason}\n\
         hint: its files are left as they are; go on from the last checkpoint, or restore them from a backup"
    )]
    Corrupt {
        /// The draft.
        name: DraftName,
        /// What is wrong.
        reason: String,
    },
    /// Beyond the end of the disk.
    #[error("request outside the disk")]
    OutOfRange,
    /// The file system is full; nothing of the request was stored.
    #[error("no space left in the store for the draft\nhint: delete or prune versions that nobody boots")]
    NoSpace,
    /// The observer of a checkpoint said so; the draft is as it was.
    #[error("the checkpoint was cancelled")]
    Cancelled,
    /// The draft was deleted, renamed or opened anew under its holder.
    #[error("the draft is closed")]
    Closed,
    /// The disk once failed to make writes durable. Nothing is accepted until the draft is opened
    /// anew, for the system reports such a failure only once.
    #[error(
        "draft {name} takes no more writes since its disk failed: {reason}\n\
         hint: look at the disk; then open the draft again, it holds every write that a flush confirmed"
    )]
    Failed {
        /// The draft.
        name: DraftName,
        /// The first failure.
        reason: String,
    },
    /// The version below cannot be opened.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A chunk of the version below cannot be read.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The checkpoint's layer cannot be published.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Puts words on a system error; tells a full file system from every other failure.
pub(crate) fn file_error(context: &'static str) -> impl FnOnce(io::Error) -> DraftError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DraftError::NoSpace,
        _ => DraftError::Io { context: context.to_owned(), source },
    }
}
