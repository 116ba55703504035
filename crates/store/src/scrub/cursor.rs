//! Where a scrub was stopped: a small text file, so that the next one goes on there.
//!
//! Two lines: `headwater scrub, revision 1`, then the root, a space and the chunk. It is not
//! synced: where it is lost or damaged, the scrub begins anew.

use model::Root;
use std::fs;
use std::io;
use std::path::Path;

const HEAD: &str = "headwater scrub, revision 1";
pub(crate) const CURSOR_FILE: &str = "scrub";
/// The longest file that can be one.
const MAX_BYTES: u64 = 200;

/// The first chunk that is not verified yet; those of smaller roots are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) root: Root,
    pub(super) chunk: u32,
}

impl Cursor {
    /// Reads the file in the store's directory, if there is one that makes sense.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let path = directory.join(CURSOR_FILE);
        let short = fs::metadata(&path).ok()?.len() <= MAX_BYTES;
        Self::decode(&fs::read_to_string(path).ok().filter(|_| short)?)
    }

    pub(super) fn write(self, directory: &Path) -> io::Result<()> {
        let new = directory.join("scrub.new");
        fs::write(&new, self.encode())?;
        fs::rename(new, directory.join(CURSOR_FILE))
    }

    pub(super) fn remove(directory: &Path) -> io::Result<()> {
        match fs::remove_file(directory.join(CURSOR_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn encode(self) -> String {
        format!("{HEAD}\n{} {}\n", self.root, self.chunk)
    }

    fn decode(text: &str) -> Option<Self> {
        let (root, chunk) =
            text.strip_prefix(HEAD)?.strip_prefix('\n')?.strip_suffix('\n')?.split_once(' ')?;
        Some(Self { root: root.parse().ok()?, chunk: chunk.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_cursor_is_read_and_written_to_the_byte() {
        let cursor = Cursor { root: Root::from_bytes([0xab; 32]), chunk: 70_000 };
        let golden = include_str!("../../golden/scrub-1");
        assert_eq!(cursor.encode(), golden);
        assert_eq!(Cursor::decode(golden), Some(cursor));
    }

    #[test]
    fn nonsense_is_no_cursor() {
        for text in ["", "headwater scrub, revision 1\n", "headwater scrub, revision 2\nab 1\n", "ab 1"] {
            assert_eq!(Cursor::decode(text), None, "{text:?}");
        }
    }
}
