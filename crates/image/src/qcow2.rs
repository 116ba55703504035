//! qcow2 images, read through the crate imago after every table was checked here.
//!
//! imago reads past the end of a cut file as zeros and follows any offset in the tables. So
//! [`check`] walks all of them first: what it lets through has no two clusters in one place, no
//! offset outside the file, no feature that nobody here knows. The format is QEMU's
//! docs/interop/qcow2.txt.
//!
//! Not read: backing files (flatten first), encryption, external data files, zstd clusters,
//! extended L2 entries.

pub(crate) mod check;
pub(crate) mod header;

use crate::reader::{ImageError, ImageReader, Run, RunKind};
use header::Header;
use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, Mapping};
use std::fs::File;
use std::io;

/// A qcow2 image whose tables are sound.
pub struct Qcow2Image {
    access: FormatAccess<ImagoFile>,
    size_bytes: u64,
}

impl Qcow2Image {
    /// Checks the header and all tables of `file`, then opens it for reading.
    pub fn open(file: File) -> Result<Self, ImageError> {
        let header = Header::read(&file)?;
        check::check_tables(&file, &header)?;
        let storage = ImagoFile::try_from(file).map_err(failed)?;
        let image = Qcow2::<ImagoFile>::builder(storage)
            .backing(None)
            .data_file(None)
            .open(DenyImplicitOpenGate::default())
            .map_err(refused_by_imago)?;
        let access = FormatAccess::new(image);
        if access.size() != header.size_bytes {
            return Err(ImageError::Damaged("its size changed while it was opened".into()));
        }
        Ok(Self { access, size_bytes: header.size_bytes })
    }
}

impl ImageReader for Qcow2Image {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError> {
        let limit = limit.min(self.size_bytes - offset);
        let (mapping, len) = self.access.get_mapping(offset, limit).map_err(failed)?;
        let kind = match mapping {
            Mapping::Zero { .. } => RunKind::Hole,
            _ => RunKind::Data,
        };
        match len {
            0 => Err(ImageError::Damaged(format!("it ends at offset {offset} of the disk"))),
            len => Ok(Run { len, kind }),
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        self.access.read(buffer, offset).map_err(failed)
    }
}

/// Errors of the system stay what they are; what imago itself complains about is damage.
fn failed(error: io::Error) -> ImageError {
    match error.raw_os_error() {
        Some(_) => ImageError::Io { context: "cannot read the qcow2 image".into(), source: error },
        None => ImageError::Damaged(error.to_string()),
    }
}

fn refused_by_imago(error: io::Error) -> ImageError {
    match failed(error) {
        ImageError::Damaged(what) => ImageError::Damaged(format!("its header: {what}")),
        other => other,
    }
}
