//! The gate before a draft's writes: whether one may execute now, asked for every one of them.
//!
//! A write enters, executes, leaves. The first one since a checkpoint waits until the dirty record
//! is committed (DESIGN section 5, rule a); none enters once the epoch has passed (rule h). Who
//! commits a checkpoint pauses the gate first: then no write is under way, and what the draft says
//! of itself is so (rule b).

use disk::BlockError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

/// Set while writes may enter without asking: the dirty record stands.
const OPEN: u64 = 1 << 63;
/// The writes that are under way.
const COUNT: u64 = OPEN - 1;

/// Why the dirty record was not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotMarked {
    /// The epoch has passed: nothing may be written any more.
    Fenced,
    /// The database did not take it; the next write may try again.
    Failed(String),
}

/// Commits the dirty record; called with no write under way.
pub(crate) type Mark = Box<dyn Fn() -> Result<(), NotMarked> + Send + Sync>;

/// One epoch's gate.
pub(crate) struct Gate {
    word: AtomicU64,
    mode: Mutex<Mode>,
    changed: Condvar,
    mark: Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The dirty record is not known to stand.
    Unmarked,
    /// Writes enter freely.
    Marked,
    /// Nobody enters until [`Gate::resume`].
    Paused,
    /// Nobody ever enters again.
    Fenced,
}

/// What a paused gate becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The record says that nothing is dirty: the next write marks it again.
    Unmarked,
    /// The record says that the draft is dirty.
    Marked,
}

impl Gate {
    /// A gate whose first write commits `mark`.
    pub(crate) fn new(mark: Mark) -> Self {
        Self { word: AtomicU64::new(0), mode: Mutex::new(Mode::Unmarked), changed: Condvar::new(), mark }
    }

    /// Keeps every write out for ever. Those under way end first where the caller then [drains].
    ///
    /// [drains]: Gate::drain
    pub(crate) fn fence(&self) {
        self.set(&mut self.lock(), Mode::Fenced);
    }

    /// Waits until no write is under way. Blocking; nobody may enter meanwhile.
    pub(crate) fn drain(&self) {
        let mode = self.lock();
        let busy = |_: &mut Mode| self.word.load(Ordering::Acquire) & COUNT > 0;
        drop(self.changed.wait_while(mode, busy).expect("no holder of this lock panics"));
    }

    /// Keeps writes waiting, and waits until none is under way; answers false where the gate is
    /// fenced, and then too none is under way. Blocking.
    pub(crate) fn pause(&self) -> bool {
        {
            let mut mode = self.lock();
            if *mode != Mode::Fenced {
                self.set(&mut mode, Mode::Paused);
            }
        }
        self.drain();
        *self.lock() == Mode::Paused
    }

    /// Lets writes in again after [`Gate::pause`].
    pub(crate) fn resume(&self, after: After) {
        let mut mode = self.lock();
        if *mode == Mode::Paused {
            let next = match after {
                After::Unmarked => Mode::Unmarked,
                After::Marked => Mode::Marked,
            };
            self.set(&mut mode, next);
        }
    }

    /// Commits the dirty record now, as the first write would.
    pub(crate) fn mark_now(&self) -> Result<(), NotMarked> {
        self.ready(self.lock())
    }

    /// Waits until writes may enter. The caller is on a thread that may wait.
    fn ready(&self, mut mode: MutexGuard<'_, Mode>) -> Result<(), NotMarked> {
        loop {
            match *mode {
                Mode::Marked => return Ok(()),
                Mode::Fenced => return Err(NotMarked::Fenced),
                Mode::Paused => mode = self.changed.wait(mode).expect("no holder of this lock panics"),
                // Under the lock: one commit for all writes that wait, and no pause in between.
                Mode::Unmarked => match (self.mark)() {
                    Ok(()) => self.set(&mut mode, Mode::Marked),
                    Err(NotMarked::Fenced) => self.set(&mut mode, Mode::Fenced),
                    Err(failed) => return Err(failed),
                },
            }
        }
    }

    fn set(&self, mode: &mut Mode, next: Mode) {
        *mode = next;
        match next {
            Mode::Marked => self.word.fetch_or(OPEN, Ordering::AcqRel),
            _ => self.word.fetch_and(COUNT, Ordering::AcqRel),
        };
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().expect("no holder of this lock panics")
    }

    /// A write begins; the caller is on a thread that may wait.
    pub(crate) fn enter(&self) -> Result<(), BlockError> {
        while self.word.fetch_add(1, Ordering::AcqRel) & OPEN == 0 {
            self.leave();
            self.ready(self.lock()).map_err(|why| match why {
                NotMarked::Fenced => BlockError::Closed,
                NotMarked::Failed(why) => BlockError::Io(why),
            })?;
        }
        Ok(())
    }

    /// Whether a flush may be answered: it stores nothing, but it promises.
    pub(crate) fn flush_allowed(&self) -> Result<(), BlockError> {
        match *self.lock() {
            Mode::Fenced => Err(BlockError::Closed),
            Mode::Unmarked | Mode::Marked | Mode::Paused => Ok(()),
        }
    }

    /// A write that entered has ended.
    pub(crate) fn leave(&self) {
        let before = self.word.fetch_sub(1, Ordering::AcqRel);
        if before & OPEN == 0 && before & COUNT == 1 {
            // Under the lock, so that whoever drains cannot miss it between its look and its sleep.
            let _mode = self.lock();
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    fn counting() -> (Arc<Gate>, Arc<AtomicU32>) {
        let marks = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&marks);
        let mark: Mark = Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        (Arc::new(Gate::new(mark)), marks)
    }

    #[test]
    fn the_first_write_marks_and_the_others_do_not() {
        let (gate, marks) = counting();
        for _ in 0..3 {
            gate.enter().unwrap();
            gate.leave();
        }
        assert_eq!(marks.load(Ordering::SeqCst), 1);
        assert!(gate.pause());
        gate.resume(After::Unmarked);
        gate.enter().unwrap();
        gate.leave();
        assert_eq!(marks.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn nothing_enters_a_fenced_gate() {
        let (gate, marks) = counting();
        gate.enter().unwrap();
        gate.fence();
        assert_eq!(gate.enter(), Err(BlockError::Closed));
        gate.leave();
        assert!(!gate.pause());
        gate.resume(After::Marked);
        assert_eq!(gate.enter(), Err(BlockError::Closed));
        assert_eq!(marks.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_epoch_that_has_passed_fences_and_a_failing_database_does_not() {
        let passed = Gate::new(Box::new(|| Err(NotMarked::Fenced)));
        assert_eq!(passed.enter(), Err(BlockError::Closed));
        let answers = Mutex::new(vec![Ok(()), Err(NotMarked::Failed("busy".to_owned()))]);
        let gate = Gate::new(Box::new(move || answers.lock().unwrap().pop().unwrap()));
        assert_eq!(gate.enter(), Err(BlockError::Io("busy".to_owned())));
        assert_eq!(gate.enter(), Ok(()));
    }

    #[test]
    fn a_pause_waits_for_the_writes_under_way_and_holds_back_the_next() {
        let (gate, _) = counting();
        let under_way = Arc::new(AtomicU32::new(0));
        let stop = Arc::new(AtomicU32::new(0));
        let writer = |gate: Arc<Gate>, under_way: Arc<AtomicU32>, stop: Arc<AtomicU32>| {
            thread::spawn(move || {
                while stop.load(Ordering::SeqCst) == 0 {
                    gate.enter().unwrap();
                    under_way.fetch_add(1, Ordering::SeqCst);
                    thread::yield_now();
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    gate.leave();
                }
            })
        };
        let threads: Vec<_> =
            (0..4).map(|_| writer(Arc::clone(&gate), Arc::clone(&under_way), Arc::clone(&stop))).collect();
        for _ in 0..200 {
            assert!(gate.pause());
            assert_eq!(under_way.load(Ordering::SeqCst), 0);
            gate.resume(After::Unmarked);
        }
        stop.store(1, Ordering::SeqCst);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
