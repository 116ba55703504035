//! Opens an image by what it is, not by what it is called.

use crate::format::{Format, format_of};
use crate::qcow2::Qcow2Image;
use crate::raw::RawImage;
use crate::reader::{ImageError, ImageReader};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Opens the image at `path`: raw (also a block device) or qcow2.
///
/// A file that begins like no known format is taken for raw. Formats that are not read here, and
/// compressed files, are refused with a hint.
pub fn open(path: &Path) -> Result<Box<dyn ImageReader>, ImageError> {
    let io = |source| ImageError::Io { context: format!("cannot open {}", path.display()), source };
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.is_dir() {
        return Err(io(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut beginning = [0; 64];
    let read = file.read_at(&mut beginning, 0).map_err(io)?;
    match format_of(&beginning[..read]) {
        Format::Raw => Ok(Box::new(RawImage::open(file)?)),
        Format::Qcow2 => Ok(Box::new(Qcow2Image::open(file)?)),
        Format::Other(name) => Err(ImageError::Refused {
            reason: format!("{} is a {name} image, which is not read yet", path.display()),
            hint: format!("convert it first: qemu-img convert -O qcow2 {} image.qcow2", path.display()),
        }),
        Format::Compressed(name) => Err(ImageError::Refused {
            reason: format!("{} is compressed ({name})", path.display()),
            hint: "unpack it first, or unpack it into the import's standard input".into(),
        }),
    }
}
