//! What a device waits for: asked for by the engine's books, taken in on the device's own thread.

use super::answer::{Asked, Outcome};
use super::{FetchError, Shared};
use crate::engine::Event;
use model::{ChunkIndex, Root};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{ReceiveError, Receiving};

/// How long a device's thread sleeps at most before it looks again whether its chunk is here.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Shared {
    /// See [`super::Puller::fetch`].
    pub(super) fn fetch_on_demand(&self, root: Root, chunks: &[ChunkIndex]) -> Result<(), FetchError> {
        let began = Instant::now();
        loop {
            let Some(receiving) = self.receiving(root)? else { return Ok(()) };
            let Some(receiving) = receiving else {
                self.have_patience(began, chunks[0])?;
                drop(self.wait(self.state(), LOOK_AGAIN));
                continue;
            };
            let missing = missing(&receiving, chunks);
            let Some(first) = missing.first() else { return Ok(()) };
            self.have_patience(began, *first)?;
            self.ask_now(&receiving, missing)?;
            let state = self.state();
            if !self::missing(&receiving, chunks).is_empty() {
                drop(self.wait(state, LOOK_AGAIN));
            }
        }
    }

    /// The version on its way; `None` inside where its manifest is still to come, and outside where
    /// it is whole.
    fn receiving(&self, root: Root) -> Result<Option<Option<Arc<Receiving>>>, FetchError> {
        let state = self.state();
        if let Some(coming) = state.coming.get(&root) {
            return Ok(Some(Some(Arc::clone(&coming.receiving))));
        }
        match state.wanted.get(&root) {
            Some(wanted) if wanted.store.has_whole(&root) => Ok(None),
            Some(_) => Ok(Some(None)),
            None => Err(FetchError::Failed("the version is not wanted on this server".into())),
        }
    }

    /// Has chunks asked for that are missing, and takes in the answers.
    fn ask_now(&self, receiving: &Receiving, missing: Vec<ChunkIndex>) -> Result<(), FetchError> {
        let (root, first) = (receiving.root(), missing[0]);
        let known = |chunk: &ChunkIndex| self.state().engine.is_missing(root, *chunk);
        if !missing.iter().all(known) {
            // It came, and a sync that failed took back what could be read of it, perhaps; what is still
            // missing after the next one, the engine thought to come together with another chunk.
            settle(receiving, first)?;
            let chunks = self::missing(receiving, &missing);
            let chunks: Vec<ChunkIndex> = chunks.into_iter().filter(|chunk| !known(chunk)).collect();
            if !chunks.is_empty() {
                self.tell_engine(Event::Lacking { root, chunks });
            }
        }
        let mut mine = Vec::new();
        let actions = self.feed(&mut self.state(), Event::NeedNow { root, chunks: missing });
        self.perform(actions, Some(&mut mine));
        while let Some(asked) = mine.pop() {
            self.take_in_now(asked, first, &mut mine)?;
        }
        Ok(())
    }

    fn take_in_now(&self, asked: Asked, first: ChunkIndex, mine: &mut Vec<Asked>) -> Result<(), FetchError> {
        let taken = self.take_in(asked);
        self.perform(taken.actions, Some(mine));
        self.changed.notify_all();
        let failed = match taken.outcome {
            Outcome::NoRoom => Err(FetchError::NoRoom(first.0)),
            Outcome::Store(reason) => Err(FetchError::Failed(reason)),
            _ => Ok(()),
        };
        if failed.is_err() {
            // Others may wait for what was asked for meanwhile.
            mine.drain(..).for_each(|asked| _ = self.hand_to_lane(asked));
        }
        failed
    }

    fn have_patience(&self, began: Instant, chunk: ChunkIndex) -> Result<(), FetchError> {
        match began.elapsed() {
            waited if waited < self.options.patience => Ok(()),
            waited => Err(FetchError::NoSource { chunk: chunk.0, waited_s: waited.as_secs() }),
        }
    }
}

fn settle(receiving: &Receiving, first: ChunkIndex) -> Result<(), FetchError> {
    match receiving.settle() {
        Ok(_) => Ok(()),
        Err(ReceiveError::NoSpace { .. }) => Err(FetchError::NoRoom(first.0)),
        Err(error) => Err(FetchError::Failed(error.to_string())),
    }
}

fn missing(receiving: &Receiving, chunks: &[ChunkIndex]) -> Vec<ChunkIndex> {
    let is_missing = |chunk: &&ChunkIndex| !receiving.version().is_readable(**chunk);
    chunks.iter().filter(is_missing).copied().collect()
}
