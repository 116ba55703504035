//! One connection at a time writes for a device, and none after its successor has begun.
//!
//! A device that loses its connection opens another and sends again what was not answered. What
//! the old connection has left in this server (a write that waits for the disk, or for a thread)
//! must not execute after that: it would put an old write over a newer one that was acknowledged
//! on the new connection. The epoch does not tell the two apart, because the session is the same.
//! So the writes of a connection that has a successor are refused, and those of the successor wait
//! until the old ones that are executing have ended.

use disk::{BlockError, BlockIo, Extent, Geometry, Piece};
use model::ByteRange;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};

/// The connections of all devices that write, by session id.
#[derive(Default)]
pub(crate) struct Successions {
    lines: Mutex<HashMap<String, Weak<Line>>>,
}

impl Successions {
    /// The disk for a new connection of a session, whose older ones write no more.
    pub(crate) fn succeed(&self, session: &str, disk: Arc<dyn BlockIo>) -> Arc<dyn BlockIo> {
        let mut lines = self.lines.lock().expect("no holder of this lock panics");
        lines.retain(|_, line| line.strong_count() > 0); // bounded by the connections that are open
        let line = lines.get(session).and_then(Weak::upgrade).unwrap_or_default();
        lines.insert(session.to_owned(), Arc::downgrade(&line));
        let number = line.next();
        Arc::new(Heir { disk, line, number })
    }
}

/// The connections of one session, one after the other.
#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    current: u64,
    /// Writes of the current connection that are executing.
    own: usize,
    /// The same of all connections before it.
    older: usize,
}

impl Line {
    fn next(&self) -> u64 {
        let mut state = self.lock();
        state.older += std::mem::take(&mut state.own);
        state.current += 1;
        state.current
    }

    /// Waits until the older connections' writes have ended. The caller may wait.
    fn enter(&self, number: u64) -> Result<Entered<'_>, BlockError> {
        let busy = |state: &mut State| state.current == number && state.older > 0;
        let state = self.changed.wait_while(self.lock(), busy);
        let mut state = state.expect("no holder of this lock panics");
        if state.current != number {
            return Err(BlockError::Closed);
        }
        state.own += 1;
        Ok(Entered { line: self, number })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

/// A write that is executing; leaves also when the disk panics.
struct Entered<'a> {
    line: &'a Line,
    number: u64,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        match state.current == self.number {
            true => state.own -= 1,
            false => state.older -= 1,
        }
        if state.older == 0 {
            self.line.changed.notify_all();
        }
    }
}

/// The disk of one connection.
struct Heir {
    disk: Arc<dyn BlockIo>,
    line: Arc<Line>,
    number: u64,
}

impl BlockIo for Heir {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        self.disk.read_resident(range, pieces)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        let _entered = self.line.enter(self.number)?;
        self.disk.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        let _entered = self.line.enter(self.number)?;
        self.disk.flush()
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        let _entered = self.line.enter(self.number)?;
        self.disk.trim(range)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        let _entered = self.line.enter(self.number)?;
        self.disk.write_zeroes(range)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        self.disk.extents(range, limit)
    }

    fn is_far(&self, range: ByteRange) -> bool {
        self.disk.is_far(range)
    }

    fn prefetch(&self, range: ByteRange) {
        self.disk.prefetch(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A disk whose writes wait until they are let through.
    struct Slow {
        begun: mpsc::SyncSender<u8>,
        pass: Mutex<mpsc::Receiver<()>>,
        written: Mutex<Vec<u8>>,
    }

    impl BlockIo for Slow {
        fn geometry(&self) -> Geometry {
            Geometry { size_bytes: 4096, access: disk::block_io::Access::ReadWrite }
        }
        fn read_resident<'a>(&'a self, _: ByteRange, _: &mut Vec<Piece<'a>>) -> bool {
            false
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), BlockError> {
            Ok(())
        }
        fn write_at(&self, _: u64, data: &[u8]) -> Result<(), BlockError> {
            self.begun.send(data[0]).unwrap();
            self.pass.lock().unwrap().recv().unwrap();
            self.written.lock().unwrap().push(data[0]);
            Ok(())
        }
        fn flush(&self) -> Result<(), BlockError> {
            Ok(())
        }
        fn trim(&self, _: ByteRange) -> Result<(), BlockError> {
            Ok(())
        }
        fn write_zeroes(&self, _: ByteRange) -> Result<(), BlockError> {
            Ok(())
        }
        fn extents(&self, _: ByteRange, _: usize) -> Result<Vec<Extent>, BlockError> {
            Ok(Vec::new())
        }
        fn is_far(&self, _: ByteRange) -> bool {
            false
        }

        fn prefetch(&self, _: ByteRange) {}
    }

    #[test]
    fn an_old_write_ends_before_a_new_connection_s_first_and_none_begins_after() {
        let (begun, has_begun) = mpsc::sync_channel(9);
        let (let_pass, pass) = mpsc::channel();
        let (pass, written) = (Mutex::new(pass), Mutex::default());
        let slow = Arc::new(Slow { begun, pass, written });
        let successions = Successions::default();
        let old = successions.succeed("s", Arc::clone(&slow) as Arc<dyn BlockIo>);
        std::thread::scope(|scope| {
            scope.spawn(|| old.write_at(0, &[1]).unwrap());
            assert_eq!(has_begun.recv().unwrap(), 1);
            let new = successions.succeed("s", Arc::clone(&slow) as Arc<dyn BlockIo>);
            assert_eq!(old.write_at(0, &[2]), Err(BlockError::Closed), "it has a successor");
            assert_eq!(old.flush(), Err(BlockError::Closed));
            let new = scope.spawn(move || new.write_at(0, &[3]).unwrap());
            assert!(has_begun.try_recv().is_err(), "the old write is still executing");
            let_pass.send(()).unwrap();
            assert_eq!(has_begun.recv().unwrap(), 3);
            let_pass.send(()).unwrap();
            new.join().unwrap();
        });
        assert_eq!(*slow.written.lock().unwrap(), [1, 3]);
    }

    #[test]
    fn sessions_do_not_succeed_each_other() {
        let (begun, _has_begun) = mpsc::sync_channel(9);
        let (let_pass, pass) = mpsc::channel();
        let (pass, written) = (Mutex::new(pass), Mutex::default());
        let slow: Arc<dyn BlockIo> = Arc::new(Slow { begun, pass, written });
        let successions = Successions::default();
        let one = successions.succeed("one", Arc::clone(&slow));
        let _two = successions.succeed("two", slow);
        let_pass.send(()).unwrap();
        assert_eq!(one.write_at(0, &[1]), Ok(()));
    }
}
