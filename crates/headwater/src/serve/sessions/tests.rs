//! The session table by its promises.

use super::*;
use disk::{BlockError, Extent, Geometry, Piece};
use model::{ByteRange, ChunkHash, Manifest, Page};

struct NoDisk;

impl BlockIo for NoDisk {
    fn geometry(&self) -> Geometry {
        Geometry { size_bytes: 1 << 20, access: disk::block_io::Access::ReadOnly }
    }
    fn read_resident<'a>(&'a self, _: ByteRange, _: &mut Vec<Piece<'a>>) -> bool {
        false
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), BlockError> {
        Err(BlockError::Closed)
    }
    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
    fn trim(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    fn write_zeroes(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    fn extents(&self, _: ByteRange, _: usize) -> Result<Vec<Extent>, BlockError> {
        Err(BlockError::Closed)
    }
    fn prefetch(&self, _: ByteRange) {}
}

fn spec(mac: &str) -> SessionSpec {
    let size = DiskSize::new(1 << 20).unwrap();
    let mut page = Page::zero();
    page.set(0, ChunkHash::from_bytes([7; 32]));
    SessionSpec {
        holder: Holder::Device { name: Name::new("m-01").unwrap(), mac: mac.parse().unwrap() },
        store: Name::new("default").unwrap(),
        vdisk: Name::new("win11").unwrap(),
        version: VersionNumber(3),
        root: Manifest::new(size, vec![page.hash()]).root(),
        size,
        write_cache: None,
        disk: Arc::new(NoDisk),
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

#[test]
fn a_token_finds_its_session_and_nothing_else_does() {
    let sessions = Sessions::default();
    let token = sessions.open(spec("52:54:00:00:00:01"), Vec::new(), at(0)).unwrap();
    assert!(sessions.disk(&token, at(1)).is_some());
    assert!(sessions.disk(&Token::from_text("win11"), at(1)).is_none());
    assert!(!format!("{token:?}").contains(token.as_str()));
}

#[test]
fn fetching_a_script_again_never_ends_the_connected_session() {
    let sessions = Sessions::default();
    let running = sessions.open(spec("52:54:00:00:00:01"), Vec::new(), at(0)).unwrap();
    sessions.disk(&running, at(1)).unwrap();
    sessions.observe(&[(running.clone(), None)], at(2));
    for n in 0..50 {
        sessions.open(spec("52:54:00:00:00:01"), Vec::new(), at(2 + n)).unwrap();
    }
    assert!(sessions.find(&running).is_some());
    assert_eq!(sessions.list().len(), 1 + MAX_WAITING_PER_DEVICE);
}

#[test]
fn an_idle_session_expires_and_a_connected_one_does_not() {
    let sessions = Sessions::default();
    let idle = sessions.open(spec("52:54:00:00:00:01"), Vec::new(), at(0)).unwrap();
    let busy = sessions.open(spec("52:54:00:00:00:02"), Vec::new(), at(0)).unwrap();
    sessions.observe(&[(busy.clone(), None)], at(601));
    assert!(sessions.find(&idle).is_none());
    assert!(sessions.find(&busy).is_some());
}

#[test]
fn a_connection_that_was_not_observed_yet_protects_its_session() {
    let sessions = Sessions::default();
    let running = sessions.open(spec("52:54:00:00:00:01"), Vec::new(), at(0)).unwrap();
    sessions.disk(&running, at(1)).unwrap();
    for n in 0..9 {
        sessions.open(spec("52:54:00:00:00:01"), Vec::new(), at(2 + n / 2)).unwrap();
    }
    assert!(sessions.find(&running).is_some());
}

#[test]
fn a_closed_session_takes_no_connection() {
    let sessions = Sessions::default();
    let token = sessions.open(spec("52:54:00:00:00:01"), Vec::new(), at(0)).unwrap();
    let id = sessions.find(&token).unwrap().id;
    assert_eq!(sessions.close(&id), Some(token.clone()));
    assert!(sessions.disk(&token, at(1)).is_none());
}

#[test]
fn a_timeline_notes_each_step_once() {
    let sessions = Sessions::default();
    let token = sessions.open(spec("52:54:00:00:00:01"), Vec::new(), at(0)).unwrap();
    sessions.step(&token, "kernel", at(1));
    sessions.step(&token, "kernel", at(2));
    assert_eq!(sessions.find(&token).unwrap().timeline.len(), 1);
}
