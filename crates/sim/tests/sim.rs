//! A thousand worlds in which nothing may be broken, and planted flaws that must be found.
//!
//! `cargo xtask show sim` plays a hundred thousand.

extern crate headwater_sim as sim;

use sim::{Broken, Flaw, Outcome, run};

/// How many worlds a planted flaw may take to be found.
const SEEDS: u64 = 1000;

fn found(flaw: Flaw) -> (u64, Broken) {
    let finding = (0..SEEDS).find_map(|seed| run(seed, flaw).err());
    let finding = finding.unwrap_or_else(|| panic!("{flaw:?} was not found in {SEEDS} worlds"));
    println!("{flaw:?} is found with seed {}:\n{finding}", finding.seed);
    (finding.seed, finding.broken)
}

#[test]
fn nothing_is_broken_in_a_thousand_worlds() {
    let mut all = Outcome::default();
    for seed in 0..SEEDS {
        match run(seed, Flaw::None) {
            Ok(outcome) => all.add(&outcome),
            Err(finding) => panic!("seed {seed}:\n{finding}"),
        }
    }
    println!("{all:?}");
    // A simulation in which little happens would show little.
    assert!(all.acknowledged > 10 * SEEDS && all.promoted > SEEDS / 2 && all.crashes > SEEDS, "{all:?}");
    assert!(all.pruned > SEEDS / 10 && all.deleted > SEEDS / 10 && all.chunks > 50 * SEEDS, "{all:?}");
}

#[test]
fn a_seed_plays_the_same_world_again() {
    assert_eq!(run(7, Flaw::None).expect("nothing is broken"), run(7, Flaw::None).expect("nor again"));
}

#[test]
fn presence_before_data_is_found() {
    assert!(matches!(found(Flaw::PresenceBeforeData).1, Broken::WrongBytes(_) | Broken::FalseCopy(_)));
}

#[test]
fn a_promotion_without_root_check_is_found() {
    assert!(matches!(found(Flaw::PromotionUnchecked).1, Broken::ProductionIsNotSealed(_)));
}

#[test]
fn pruning_without_asking_for_sessions_is_found() {
    assert!(matches!(found(Flaw::PruneWithoutSessions).1, Broken::Deleted(_)));
}

#[test]
fn deleting_without_asking_for_the_sessions_of_other_servers_is_found() {
    assert!(matches!(found(Flaw::OthersNotAsked).1, Broken::Deleted(_)));
}
