//! What devices read while they boot comes first: the boot profiles of versions on their way here,
//! told to the mesh.

use farm::rules::profile::profile_of;
use farm::{FarmView, Timestamp};
use model::{ChunkIndex, Root};
use std::collections::BTreeMap;

/// The profiles that the mesh was told, by when they last changed.
#[derive(Debug, Default)]
pub(super) struct Order(BTreeMap<Root, Timestamp>);

impl Order {
    /// Tells the profile of each version that is on its way, once for each change of it.
    pub(super) fn tell(
        &mut self,
        view: &FarmView,
        is_coming: impl Fn(&Root) -> bool,
        mut tell: impl FnMut(Root, Vec<ChunkIndex>),
    ) {
        self.0.retain(|root, _| is_coming(root));
        for version in view.versions.values().filter(|version| is_coming(&version.root)) {
            let Some(profile) = profile_of(view, version) else { continue };
            let at = profile.learned.at;
            if self.0.insert(version.root, at) != Some(at) {
                tell(version.root, profile.learned.chunks.chunks());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A farm with vDisk "office", whose version 1 has this root.
    const RECORDS: &str = include_str!("../../../../farm/golden/records-1.txt");

    #[test]
    fn a_profile_is_told_once_for_each_change_while_its_version_comes() {
        let mut view = FarmView::default();
        RECORDS.lines().for_each(|line| {
            let (key, value) = line.split_once(' ').unwrap();
            view.put(key, value.as_bytes(), 1).unwrap();
        });
        let root = Root::from_bytes([0xab; 32]);
        let learn = |view: &mut FarmView, at: u64, chunks: &str| {
            let value = format!(r#"{{"revision":1,"boots":1,"at":{at},"chunks":"{chunks}"}}"#);
            view.put(&format!("/profiles/{root}"), value.as_bytes(), at).unwrap();
        };
        let (mut order, mut told) = (Order::default(), Vec::new());
        let mut look = |view: &FarmView, comes: bool| {
            order.tell(view, |of| comes && *of == root, |_, chunks| told.push(chunks.len()));
            told.len()
        };
        assert_eq!(look(&view, true), 0, "nobody has booted it");
        learn(&mut view, 7, "1+3");
        assert_eq!((look(&view, true), look(&view, true)), (1, 1));
        learn(&mut view, 8, "1+4");
        assert_eq!((look(&view, true), look(&view, false)), (2, 2));
        assert_eq!(look(&view, true), 3, "it is lacked again");
    }
}
