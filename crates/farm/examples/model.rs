//! The long form of the model check (`cargo xtask show model`); `tests/model` is the short one.
//!
//! Ends with one line: what was found, what held, over how many states.

extern crate headwater_farm as farm;

#[path = "../tests/model/check.rs"]
mod check;
#[path = "../tests/model/naive.rs"]
mod naive;
#[path = "../tests/model/records.rs"]
mod records;
#[path = "../tests/model/world.rs"]
mod world;

use naive::SCHEMES;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::process::ExitCode;
use world::{Bounds, Flaw, World};

/// How many threads search.
const THREADS: usize = 2;

const THREE: Bounds = Bounds { servers: 3, writes: 2, epochs: 4, losses: 0, copies: false, races: false };
const TWO: Bounds = Bounds { servers: 2, ..THREE };

/// The most states generated in one run, found before or not: about a minute on two cores.
const MOST_STATES: usize = 8_000_000;

/// What is tried, each for one sort of trouble as far as it goes in minutes.
const RUNS: [(&str, Bounds); 4] = [
    ("crashes, old epochs, discards", Bounds { epochs: 5, ..THREE }),
    ("transactions that overtake", Bounds { races: true, epochs: 3, writes: 1, ..THREE }),
    ("copies come and go", Bounds { copies: true, epochs: 2, ..THREE }),
    (
        "a lost disk, prune, overtaking",
        Bounds { copies: true, races: true, losses: 1, writes: 1, epochs: 2, ..TWO },
    ),
];

fn main() -> ExitCode {
    let schemes = SCHEMES.iter().filter(|scheme| {
        let found = scheme
            .checker()
            .threads(THREADS)
            .spawn_bfs()
            .join()
            .discovery("what was acknowledged is not lost");
        let steps = found.map(|path| path.into_actions());
        println!("{scheme:?} loses a byte by {steps:?}");
        steps.is_some()
    });
    let schemes = schemes.count();
    let flaws = flaws().into_iter().filter(|(flaw, bounds)| is_found(*flaw, *bounds)).count();
    let (mut states, mut depth, mut failed) = (0, 0, 0);
    for (name, bounds) in RUNS {
        let checker = World { bounds, flaw: Flaw::None }.checker().threads(THREADS);
        let checker = checker.target_state_count(MOST_STATES).spawn_bfs().join();
        let all = checker.state_count() < MOST_STATES;
        let how_many = if all { "all" } else { "the nearest" };
        println!(
            "{name}: {how_many} {} states, depth {}; {bounds:?}",
            checker.unique_state_count(),
            checker.max_depth()
        );
        states += checker.unique_state_count();
        depth = depth.max(checker.max_depth());
        failed += failures(&checker);
    }
    let held = World { bounds: THREE, flaw: Flaw::None }
        .properties()
        .iter()
        .filter(|p| p.name.starts_with('9'))
        .count();
    let (all_schemes, all_flaws) = (SCHEMES.len(), self::flaws().len());
    println!(
        "model: {schemes} of {all_schemes} known counterexamples and {flaws} of {all_flaws} mistakes of a server \
         found; with the real rules {failed} violations of {held} properties over {states} states, depth {depth}"
    );
    match (schemes, flaws, failed) == (all_schemes, all_flaws, 0) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Each mistake, with bounds that are wide enough for it.
fn flaws() -> [(Flaw, Bounds); 6] {
    let lossy = Bounds { losses: 1, copies: true, writes: 1, epochs: 3, ..TWO };
    [
        (Flaw::OpenGate, Bounds { races: true, epochs: 3, ..TWO }),
        (Flaw::StaysMarked, THREE),
        (Flaw::ResumesWithoutFiles, lossy),
        (Flaw::KeepsOldFiles, Bounds { losses: 0, ..lossy }),
        (Flaw::TrustsRecords, lossy),
        (Flaw::ForgetsAtOnce, Bounds { races: true, epochs: 2, ..lossy }),
    ]
}

fn is_found(flaw: Flaw, bounds: Bounds) -> bool {
    let checker = World { bounds, flaw }.checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures);
    let found = checker.spawn_bfs().join().discoveries();
    let found = found.into_iter().find(|(name, _)| name.starts_with('9'));
    println!(
        "{flaw:?} is found by {:?}",
        found.as_ref().map(|(name, path)| (name, path.clone().into_actions()))
    );
    found.is_some()
}

/// How many properties were violated, or never seen where they should be.
fn failures(checker: &impl Checker<World>) -> usize {
    let discoveries = checker.discoveries();
    let failed = |property: &&Property<World>| {
        let found = discoveries.get(property.name);
        if let (Some(path), true) = (found, property.name.starts_with('9')) {
            println!("VIOLATED: {} by {:?}", property.name, path.clone().into_actions());
        }
        property.name.starts_with('9') == found.is_some()
    };
    checker.model().properties().iter().filter(failed).count()
}
