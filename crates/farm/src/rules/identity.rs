//! The farm's identity secret: made once, never changed.

use crate::change::Change;
use crate::identity::IdentitySecret;
use crate::key::Key;
use crate::record::FormatRevision;
use crate::timestamp::Timestamp;
use crate::view::FarmView;

/// Makes the secret where the farm has none yet; `random` is 256 random bits in hexadecimal.
///
/// Of two servers that start at the same time one conflicts, and finds the other's secret then.
pub fn make_secret(view: &FarmView, random: &str, now: Timestamp) -> Change {
    let mut change = Change::default();
    if view.identity_secret.is_none() {
        let key = Key::IdentitySecret;
        change.absent(key.clone());
        let (revision, secret) = (FormatRevision, random.to_owned());
        change.put(key, &IdentitySecret { revision, secret, created: now });
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Write;

    #[test]
    fn a_secret_is_made_once_and_never_shown() {
        let mut view = FarmView::default();
        let change = make_secret(&view, "5ec2e7", Timestamp(7));
        let [Write::Put(key, value)] = &change.writes[..] else { panic!("{change:?}") };
        view.put(&key.to_string(), value, 1).unwrap();
        assert_eq!(view.identity_secret.as_ref().unwrap().secret, "5ec2e7");
        assert!(!format!("{view:?}").contains("5ec2e7"));
        assert_eq!(make_secret(&view, "other", Timestamp(8)), Change::default());
    }
}
