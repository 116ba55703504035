//! The model check of the rules: the schemes that are known to lose bytes are found to, ours is not.
//!
//! The short form; `cargo xtask show model` tries more (`crates/farm/examples/model.rs`).

extern crate headwater_farm as farm;

mod check;
mod naive;
mod records;
mod world;

use naive::SCHEMES;
use stateright::{Checker, HasDiscoveries, Model};
use world::{Bounds, Flaw, World};

/// How many threads search.
const THREADS: usize = 2;

const SMALL: Bounds = Bounds { servers: 3, writes: 2, epochs: 3, losses: 0, copies: false, races: false };

#[test]
fn every_scheme_that_is_known_to_lose_bytes_is_found_to() {
    for scheme in SCHEMES {
        let checker = scheme.checker().threads(THREADS).spawn_bfs().join();
        let path = checker.discovery("what was acknowledged is not lost");
        let path = path.unwrap_or_else(|| panic!("{scheme:?} must lose a byte"));
        println!("{scheme:?}: {:?}", path.into_actions());
    }
}

#[test]
fn every_mistake_of_a_server_around_right_rules_is_found() {
    let lossy = Bounds { losses: 1, copies: true, servers: 2, writes: 1, ..SMALL };
    let racing = Bounds { races: true, servers: 2, ..SMALL };
    for (flaw, bounds) in [
        (Flaw::OpenGate, racing),
        (Flaw::StaysMarked, SMALL),
        (Flaw::ResumesWithoutFiles, lossy),
        (Flaw::KeepsOldFiles, Bounds { losses: 0, ..lossy }),
        (Flaw::TrustsRecords, lossy),
        (Flaw::ForgetsAtOnce, Bounds { races: true, epochs: 2, ..lossy }),
    ] {
        let checker = World { bounds, flaw }.checker().threads(THREADS);
        let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found: Vec<_> =
            checker.discoveries().into_iter().filter(|(name, _)| name.starts_with('9')).collect();
        assert!(!found.is_empty(), "{flaw:?} must be found");
        println!("{flaw:?}: {:?} {:?}", found[0].0, found[0].1.clone().into_actions());
    }
}

/// Nothing that must always hold is violated, and what must be possible was seen.
fn holds(bounds: Bounds) {
    let checker = World { bounds, flaw: Flaw::None }.checker().threads(THREADS).spawn_bfs().join();
    println!("{bounds:?}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn three_servers_that_crash_and_thaw_lose_nothing() {
    holds(SMALL);
}

#[test]
fn transactions_that_overtake_each_other_lose_nothing() {
    holds(Bounds { servers: 2, races: true, writes: 1, ..SMALL });
}

#[test]
fn copies_that_come_and_go_and_a_lost_disk_lose_nothing_but_what_was_on_it() {
    holds(Bounds { servers: 2, copies: true, losses: 1, writes: 1, ..SMALL });
}

#[test]
fn what_a_killed_process_sent_comes_late_and_does_no_harm() {
    holds(Bounds { servers: 2, copies: true, races: true, writes: 1, epochs: 2, ..SMALL });
}
