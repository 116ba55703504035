//! Boot profiles are learned, inherited, handed on and forgotten.

use super::*;
use crate::rules::profile::{learned, profile_of, sweep};
use model::{BootProfile, ChunkIndex};

fn read(chunks: impl IntoIterator<Item = u32>) -> BootProfile {
    BootProfile::from_order(chunks.into_iter().map(ChunkIndex))
}

fn root(byte: u8) -> Root {
    Root::from_bytes([byte; 32])
}

fn boots(memory: &mut Memory, byte: u8, chunks: impl IntoIterator<Item = u32>) -> bool {
    let change = learned(&memory.view, root(byte), &read(chunks), at(5));
    let tells = !change.writes.is_empty();
    assert!(memory.commit(change));
    tells
}

fn chunks_of(memory: &Memory, number: u32) -> usize {
    let profile = profile_of(&memory.view, memory.version(number));
    profile.map_or(0, |profile| profile.learned.chunks.chunks().len())
}

#[test]
fn a_version_that_never_booted_has_the_profile_of_the_one_below() {
    let mut memory = Memory::of_three();
    assert!(boots(&mut memory, 1, 0..100));
    assert!(!boots(&mut memory, 9, 0..100), "no version has that content");
    let number = memory.sealed(2);
    let inherited = profile_of(&memory.view, memory.version(number.0)).unwrap();
    assert_eq!(inherited.inherited_from, Some(VersionNumber(1)));
    assert!(boots(&mut memory, 2, 50..150));
    assert_eq!((chunks_of(&memory, 1), chunks_of(&memory, 2)), (100, 150));
    assert_eq!(memory.view.profiles[&root(2)].boots, 1);
}

#[test]
fn after_some_boots_a_profile_changes_for_news_only() {
    let mut memory = Memory::of_three();
    for _ in 0..4 {
        assert!(boots(&mut memory, 1, 0..200));
    }
    assert!(!boots(&mut memory, 1, 1..202));
    assert!(boots(&mut memory, 1, 0..210));
    assert_eq!(chunks_of(&memory, 1), 210);
}

#[test]
fn what_is_in_production_keeps_an_inherited_profile_and_what_is_gone_loses_its_own() {
    let mut memory = Memory::of_three();
    boots(&mut memory, 1, 0..100);
    let number = memory.sealed(2);
    assert!(sweep(&memory.view, at(6)).writes.is_empty(), "it is not in production");
    memory.view.vdisks.get_mut(&name("office")).unwrap().record.production = Some(number);
    let swept = sweep(&memory.view, at(6));
    assert!(memory.commit(swept));
    assert_eq!(memory.view.profiles[&root(2)].boots, 0);
    memory.view.versions.retain(|(_, number), _| number.0 == 2);
    let swept = sweep(&memory.view, at(7));
    assert!(memory.commit(swept));
    assert_eq!(memory.view.profiles.keys().copied().collect::<Vec<_>>(), [root(2)]);
    assert!(sweep(&memory.view, at(8)).writes.is_empty());
    assert_eq!(chunks_of(&memory, 2), 100);
}
