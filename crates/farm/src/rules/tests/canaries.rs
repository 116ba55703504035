//! A canary is let out, arrives, and is taken back.

use super::*;
use crate::rules::canary::{arrived, let_out, take_back};
use crate::rules::reach::roots_in_use;

#[test]
fn a_canary_is_needed_until_it_is_taken_back_and_there_is_one_at_a_time() {
    let mut memory = Memory::of_three();
    let (store, hw1, root) = (name("default"), name("hw1"), Root::from_bytes([7; 32]));
    memory.must(let_out(&memory.view, &store, root, &hw1, at(10)));
    let refused = let_out(&memory.view, &store, Root::from_bytes([8; 32]), &hw1, at(11)).unwrap_err();
    assert!(refused.message.contains("server hw1 tests store default"), "{refused}");
    assert!(memory.view.names(root) && roots_in_use(&memory.view).contains(&root));
    let all: BTreeSet<Name> = ["hw1", "hw2", "hw3"].map(name).into();
    assert_eq!(arrived(&memory.view, &store, root), (BTreeSet::from([hw1.clone()]), all.clone()));
    memory.hydrate("hw2", 7);
    memory.hydrate("hw3", 7);
    assert_eq!(arrived(&memory.view, &store, root), (all.clone(), all));
    let other = take_back(&memory.view, &store, Root::from_bytes([8; 32]));
    assert!(other.writes.is_empty(), "that is not the one");
    let back = take_back(&memory.view, &store, root);
    assert!(memory.commit(back) && !memory.view.names(root));
    memory.must(let_out(&memory.view, &store, root, &hw1, at(20)));
    memory.must(let_out(&memory.view, &store, Root::from_bytes([8; 32]), &name("hw2"), at(700)));
    assert_eq!(memory.view.canaries[&store].server, name("hw2"), "the first one was left behind");
}
