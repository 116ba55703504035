//! Telling formats apart by their first bytes.

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Nothing else that is known: a raw image.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
    /// An image format that this program does not read.
    Other(&'static str),
    /// A compressed file, which may hold anything.
    Compressed(&'static str),
}

/// Beginnings of files that are surely no raw disks: a disk begins with boot code, a partition
/// table or zeros.
const BEGINNINGS: [(&[u8], Format); 11] = [
    (b"QFI\xfb", Format::Qcow2),
    (b"KDMV", Format::Other("VMDK")),
    (b"# Disk DescriptorFile", Format::Other("VMDK")),
    (b"vhdxfile", Format::Other("VHDX")),
    (b"conectix", Format::Other("VHD")),
    (b"QED\0", Format::Other("QED")),
    (b"<<< Oracle VM VirtualBox Disk Image >>>", Format::Other("VDI")),
    (b"\x1f\x8b\x08", Format::Compressed("gzip")),
    (b"\xfd7zXZ\0", Format::Compressed("xz")),
    (b"\x28\xb5\x2f\xfd", Format::Compressed("zstd")),
    (b"BZh", Format::Compressed("bzip2")),
];

impl Format {
    /// The format's name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Other(name) | Self::Compressed(name) => name,
        }
    }
}

/// Recognises a format by the first bytes of a file (64 are enough).
pub fn format_of(beginning: &[u8]) -> Format {
    let found = BEGINNINGS.iter().find(|(bytes, _)| beginning.starts_with(bytes));
    found.map_or(Format::Raw, |(_, format)| *format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_beginning() {
        assert_eq!(format_of(b"QFI\xfb\0\0\0\x03"), Format::Qcow2);
        assert_eq!(format_of(b"\xeb\x63\x90"), Format::Raw);
        assert_eq!(format_of(b""), Format::Raw);
        assert_eq!(format_of(b"\x1f\x8b\x08\0").name(), "gzip");
    }
}
