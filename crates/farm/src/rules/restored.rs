//! Records that were turned back: an admin looks first, then stores are tidied up again.

use crate::change::{Change, Refusal, RefusalKind};
use crate::key::Key;
use crate::record::FormatRevision;
use crate::restored::Restored;
use crate::timestamp::Timestamp;
use crate::view::FarmView;

/// Notes that the records are older than what servers have; nothing where that is noted already.
pub fn hold(view: &FarmView, now: Timestamp) -> Change {
    let mut change = Change::default();
    if view.restored.is_none() {
        change.absent(Key::Restored);
        change.put(Key::Restored, &Restored { revision: FormatRevision, made: None, at: now });
    }
    change
}

/// Takes the records as they are: what no record names may be deleted again.
pub fn accept(view: &FarmView) -> Result<Change, Refusal> {
    let Some(seen) = &view.restored else {
        let hint = "`headwater farm status` says how it stands";
        return Err(Refusal::new(RefusalKind::NotFound, "the farm's records were not restored", hint));
    };
    let mut change = Change::default();
    change.unchanged(Key::Restored, seen);
    change.delete(Key::Restored);
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Write;

    #[test]
    fn restored_records_are_noted_once() {
        let mut view = FarmView::default();
        let change = hold(&view, Timestamp(7));
        let [Write::Put(Key::Restored, value)] = &change.writes[..] else { panic!("{change:?}") };
        view.put("/restored", value, 3).unwrap();
        assert_eq!(
            view.restored.as_ref().map(|restored| (restored.made, restored.at)),
            Some((None, Timestamp(7)))
        );
        assert_eq!(hold(&view, Timestamp(8)), Change::default());
    }

    #[test]
    fn restored_records_are_accepted_once() {
        let mut view = FarmView::default();
        assert_eq!(accept(&view).unwrap_err().kind, RefusalKind::NotFound);
        let (key, value) = include_str!("../../golden/restored-1.txt").trim_end().split_once(' ').unwrap();
        view.put(key, value.as_bytes(), 3).unwrap();
        let change = accept(&view).unwrap();
        let [Write::Delete(Key::Restored)] = &change.writes[..] else { panic!("{change:?}") };
        view.delete(key).unwrap();
        assert!(view.restored.is_none());
    }
}
