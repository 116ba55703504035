//! The one way to read an image, whatever its format.

/// A disk image as a flat array of bytes; safe to read from several threads.
pub trait ImageReader: Send + Sync {
    /// The virtual disk's size in bytes.
    fn size_bytes(&self) -> u64;

    /// The run that begins at `offset`, at most `limit` bytes long: data or a hole. What is not
    /// known to be a hole is data. Never empty for an offset inside the disk.
    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError>;

    /// Fills `buffer` from `offset`; the range lies inside the disk.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError>;
}

/// A run of bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Length in bytes.
    pub len: u64,
    /// Whether it is worth reading.
    pub kind: RunKind,
}

/// Whether a run holds bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// May hold anything.
    Data,
    /// Reads as zeros; need not be read.
    Hole,
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file is not what its header says, or is cut off.
    #[error("the image is damaged: {0}")]
    Damaged(String),
    /// A feature of the format that is not supported.
    #[error("the image uses {0}, which is not supported")]
    Unsupported(String),
    /// The image is sound, but must be converted or unpacked before it can be read here.
    #[error("{reason}\nhint: {hint}")]
    Refused {
        /// What stands in the way.
        reason: String,
        /// What to do first.
        hint: String,
    },
    /// Reading or writing failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's error.
        source: std::io::Error,
    },
}
