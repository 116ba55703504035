//! Disk image formats in and out; finding partitions and boot files in an image.
//!
//! Formats are read by kept crates behind [`ImageReader`]; what a file claims about itself is
//! checked before it is believed.

pub mod boot_files;
pub mod export;
mod ext4_edit;
mod fat_edit;
pub mod format;
pub mod linux_clean;
pub mod open;
mod overlay;
pub mod partitions;
pub mod qcow2;
pub mod raw;
pub mod reader;
#[cfg(test)]
mod test_image;
mod window;

pub use boot_files::{BootFiles, BootFilesError, ModuleFile, RootSpec, find_boot_files};
pub use export::{export_qcow2, export_raw};
pub use format::{Format, format_of};
pub use linux_clean::{CleanError, Cleaned, CleanedFile, Cleaning, clean_linux};
pub use open::open;
pub use overlay::Change;
pub use reader::{ImageError, ImageReader, Run, RunKind};
