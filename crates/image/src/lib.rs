//! Disk image formats in and out; finding partitions and boot files in an image.
//!
//! Formats are read by kept crates behind [`ImageReader`]; what a file claims about itself is
//! checked before it is believed.

pub mod reader;

pub use reader::{ImageError, ImageReader, Run, RunKind};
