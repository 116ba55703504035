//! How many events are taken: what a machine in a loop can cause is bounded.

use farm::{EventKind, NewEvent};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The same event of the same subject is taken once in this time.
const SAME_EVERY: Duration = Duration::from_secs(30);
/// Events of one kind, whoever they are about, that are taken in [`WINDOW`]: a boot storm of a
/// hundred machines passes, made-up addresses do not fill the log.
const KIND_LIMIT: u32 = 200;
const WINDOW: Duration = Duration::from_secs(60);
/// The most subjects remembered.
const MAX_SUBJECTS: usize = 4096;

/// Decides which events are taken.
#[derive(Default)]
pub(super) struct EventLimit {
    last: HashMap<(EventKind, String), Taken>,
    kinds: HashMap<EventKind, (Instant, u32)>,
}

struct Taken {
    at: Instant,
    message: String,
}

impl EventLimit {
    /// Whether to take the event.
    pub(super) fn admits(&mut self, event: &NewEvent, now: Instant) -> bool {
        let key = (event.kind, event.subject.clone());
        let young = |taken: &Taken| now.saturating_duration_since(taken.at) < SAME_EVERY;
        if self.last.get(&key).is_some_and(|last| young(last) && last.message == event.message) {
            return false;
        }
        if !self.kind_admits(event.kind, now) {
            return false;
        }
        if self.last.len() >= MAX_SUBJECTS {
            self.last.retain(|_, taken| young(taken));
        }
        if self.last.len() < MAX_SUBJECTS {
            self.last.insert(key, Taken { at: now, message: event.message.clone() });
        }
        true
    }

    fn kind_admits(&mut self, kind: EventKind, now: Instant) -> bool {
        let (begun, count) = self.kinds.entry(kind).or_insert((now, 0));
        if now.saturating_duration_since(*begun) >= WINDOW {
            (*begun, *count) = (now, 0);
        }
        *count += 1;
        if *count == KIND_LIMIT + 1 {
            tracing::warn!(
                kind = kind.id(),
                "too many events of one kind: the rest of this minute's is left out"
            );
        }
        *count <= KIND_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(subject: &str, message: &str) -> NewEvent {
        NewEvent::new(EventKind::BootRefused, subject, message)
    }

    #[test]
    fn a_loop_is_told_once_and_news_at_once() {
        let (mut limit, now) = (EventLimit::default(), Instant::now());
        assert!(limit.admits(&refused("pc-1", "no vDisk"), now));
        assert!(!limit.admits(&refused("pc-1", "no vDisk"), now));
        assert!(limit.admits(&refused("pc-1", "disabled"), now));
        assert!(limit.admits(&refused("pc-2", "no vDisk"), now));
        assert!(limit.admits(&refused("pc-1", "disabled"), now + SAME_EVERY));
    }

    #[test]
    fn made_up_subjects_are_bounded_in_time_and_memory() {
        let (mut limit, now) = (EventLimit::default(), Instant::now());
        let admitted = (0..10_000).filter(|n| limit.admits(&refused(&n.to_string(), "x"), now)).count();
        assert_eq!(admitted, KIND_LIMIT as usize);
        for minute in 1..100 {
            let now = now + WINDOW * minute;
            let admits = |n| limit.admits(&refused(&format!("{minute}-{n}"), "x"), now);
            assert!((0..KIND_LIMIT).all(admits));
        }
        assert!(limit.last.len() <= MAX_SUBJECTS);
    }
}
