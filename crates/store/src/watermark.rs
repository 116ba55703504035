//! How full a file system is, as an admin hears of it: pure, with hysteresis.
//!
//! A store that hovers around one mark would otherwise tell of it at every look. Below the low
//! mark the state is [`SpaceState::Low`] until the free space is above the high mark again; below
//! the reserve nothing is imported or fetched any more, so that drafts still can grow (DESIGN
//! section 9, invariant 12).

/// The marks of a store: bytes that are free. Sensible marks have reserve <= low <= high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// What imports and fetches leave free.
    pub reserve: u64,
    /// Less than this is low.
    pub low: u64,
    /// This much or more is ample again.
    pub high: u64,
}

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpaceState {
    /// Enough.
    #[default]
    Ample,
    /// Somebody should look.
    Low,
    /// Only drafts may grow.
    Reserve,
}

impl Watermarks {
    /// The state after `before` where `free` bytes are free. A caller tells of it where it differs.
    pub fn next(&self, before: SpaceState, free: u64) -> SpaceState {
        let above = |mark: u64| free >= mark;
        match before {
            _ if !above(self.reserve) => SpaceState::Reserve,
            _ if !above(self.low) => SpaceState::Low,
            SpaceState::Ample => SpaceState::Ample,
            SpaceState::Low | SpaceState::Reserve if above(self.high) => SpaceState::Ample,
            SpaceState::Low | SpaceState::Reserve => SpaceState::Low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SpaceState::{Ample, Low, Reserve};
    use proptest::prelude::*;

    const MARKS: Watermarks = Watermarks { reserve: 10, low: 20, high: 30 };

    #[test]
    fn a_state_is_left_only_past_the_high_mark() {
        let steps =
            [(25, Ample), (19, Low), (25, Low), (30, Ample), (9, Reserve), (15, Low), (29, Low), (31, Ample)];
        let mut state = Ample;
        for (free, expected) in steps {
            state = MARKS.next(state, free);
            assert_eq!(state, expected, "{free} free");
        }
    }

    proptest! {
        #[test]
        fn looking_again_changes_nothing(before in 0..3usize, free in 0..50u64) {
            let before = [Ample, Low, Reserve][before];
            let state = MARKS.next(before, free);
            prop_assert_eq!(MARKS.next(state, free), state);
            prop_assert_eq!(state == Reserve, free < MARKS.reserve);
        }
    }
}
