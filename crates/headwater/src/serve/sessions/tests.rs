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
    fn is_far(&self, _: ByteRange) -> bool {
        false
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
        mode: SessionMode::Shared,
        disk: Some(Arc::new(NoDisk)),
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
    let closed = sessions.close(sessions.by_id(&id).unwrap()).unwrap();
    assert_eq!(closed.token, Some(token.clone()));
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

#[test]
fn a_session_goes_on_after_the_server_was_killed_unless_its_writes_were_in_ram() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Sessions::kept_in(Ledger::open(dir.path().to_owned()).unwrap());
    let before = open();
    let kept = before.open(spec("52:54:00:00:00:01"), Vec::new(), at(0)).unwrap();
    let scratch = SessionSpec { mode: SessionMode::Scratch, ..spec("52:54:00:00:00:02") };
    let gone = before.open(scratch, Vec::new(), at(0)).unwrap();
    let was = before.find(&kept).unwrap();
    drop(before);
    let after = open();
    for (hash, record) in after.kept() {
        after.restore(hash, record, Some(Arc::new(NoDisk)), at(5));
    }
    let is = after.find(&kept).unwrap();
    assert_eq!((is.id, is.root, is.holder), (was.id, was.root, was.holder));
    assert!(after.disk(&kept, at(6)).is_some() && after.find(&gone).is_none());
    let closed = after.close(kept.hash()).unwrap();
    assert!(closed.token.is_some() && open().kept().is_empty());
}

#[test]
fn a_session_that_holds_a_draft_ends_by_closing_only() {
    let sessions = Sessions::default();
    let draft =
        SessionSpec { mode: SessionMode::Draft { epoch: None }, disk: None, ..spec("52:54:00:00:00:01") };
    let token = sessions.open(draft, Vec::new(), at(0)).unwrap();
    assert!(sessions.disk(&token, at(1)).is_none(), "it has no disk before it is attached");
    sessions.attach(token.hash(), 7, Arc::new(NoDisk)).unwrap();
    sessions.disk(&token, at(1)).unwrap();
    for n in 0..9 {
        sessions.open(spec("52:54:00:00:00:01"), Vec::new(), at(100 + n)).unwrap();
    }
    sessions.observe(&[], at(9_999));
    let holders = sessions.draft_holders(at(9_999));
    assert_eq!((holders.len(), holders[0].2), (1, Some(at(1))));
    assert!(sessions.find(&token).is_some());
}
