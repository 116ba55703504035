//! The engine's promises: in single steps, and in random worlds of peers that come, go and lie.

mod sharing;
mod world;

use super::*;
use proptest::prelude::*;
use world::{World, name, root};

const SECOND: Duration = Duration::from_secs(1);

fn wanted(chunks: u32) -> Event {
    Event::Wanted { root: root(1), missing: ChunkSet::full(chunks), priority: Priority::Bulk }
}

fn engine(chunks: u32) -> Engine {
    let mut engine = Engine::new(name("me"), Options::default());
    for peer in ["a", "b"] {
        engine.handle(Duration::ZERO, Event::PeerUp { peer: name(peer) });
    }
    engine.handle(Duration::ZERO, Event::HasAll { peer: name("a"), root: root(1) });
    let actions = engine.handle(Duration::ZERO, wanted(chunks));
    assert!(!asks(&actions).is_empty() || chunks == 0);
    engine
}

fn asks(actions: &[Action]) -> Vec<(Name, Priority, RequestId, Vec<ChunkIndex>)> {
    let ask = |action: &Action| match action {
        Action::Ask { peer, priority, request, chunks, .. } => {
            Some((peer.clone(), *priority, *request, chunks.clone()))
        }
        _ => None,
    };
    actions.iter().filter_map(ask).collect()
}

fn arrived(chunk: u32) -> Event {
    Event::Arrived { root: root(1), chunk: ChunkIndex(chunk), sent_bytes: CHUNK_SIZE }
}

#[test]
fn a_root_of_which_all_is_here_is_complete_at_once() {
    let mut engine = engine(0);
    assert_eq!(engine.handle(SECOND, wanted(0)), [Action::Completed(root(1))]);
    assert_eq!(engine.backlog(root(1)), None);
}

#[test]
fn a_chunk_that_a_device_needs_leaves_its_bulk_request() {
    let mut engine = engine(1000);
    let chunk = engine.works[&root(1)].flying.iter().next().unwrap();
    let actions = engine.handle(SECOND, Event::NeedNow { root: root(1), chunks: vec![chunk] });
    assert!(matches!(&actions[0], Action::Cancel { chunks, .. } if chunks == &[chunk]));
    assert!(asks(&actions).iter().any(|ask| ask.1 == Priority::OnDemand && ask.3 == [chunk]));
}

#[test]
fn while_devices_wait_little_else_is_on_its_way() {
    let mut engine = engine(1000);
    let in_flight = |engine: &Engine| engine.peers[&name("a")].in_flight;
    let (all, few) = (engine.options.window, engine.options.window_beside_devices);
    assert_eq!(in_flight(&engine), all);
    engine.handle(SECOND, Event::NeedNow { root: root(1), chunks: vec![ChunkIndex(999)] });
    for _ in 0..all {
        let next = engine.works[&root(1)].flying.iter().next().unwrap();
        engine.handle(SECOND, arrived(next.0));
    }
    assert!((1..=few).contains(&in_flight(&engine)), "{}", in_flight(&engine));
    let next = engine.works[&root(1)].flying.iter().next().unwrap();
    engine.handle(SECOND + DEVICES_WAIT, arrived(next.0));
    assert!(in_flight(&engine) > all / 2, "when they wait no more all of it comes again");
}

#[test]
fn a_full_disk_stops_bulk_and_no_device() {
    let mut engine = engine(1000);
    engine.handle(SECOND, Event::DiskFull);
    for chunk in engine.works[&root(1)].flying.clone().iter() {
        assert!(asks(&engine.handle(SECOND, arrived(chunk.0))).is_empty());
    }
    let open = engine.works[&root(1)].missing.iter().next().unwrap();
    let actions = engine.handle(SECOND, Event::NeedNow { root: root(1), chunks: vec![open] });
    assert_eq!(asks(&actions)[0].1, Priority::OnDemand);
    assert_eq!(engine.backlog(root(1)).unwrap().reason, Reason::DiskFull);
    assert!(!asks(&engine.handle(SECOND, Event::DiskFree)).is_empty());
}

#[test]
fn a_closed_schedule_stops_bulk_until_an_admin_wants_it_now() {
    let mut engine = Engine::new(name("me"), Options::default());
    engine.handle(SECOND, Event::Slot(Slot::Closed));
    engine.handle(SECOND, Event::PeerUp { peer: name("a") });
    engine.handle(SECOND, Event::HasAll { peer: name("a"), root: root(1) });
    assert!(asks(&engine.handle(SECOND, wanted(10))).is_empty());
    assert_eq!(engine.backlog(root(1)).unwrap().reason, Reason::ScheduleClosed);
    let forced = |forced| Event::Forced { root: root(1), forced };
    let actions = engine.handle(SECOND, forced(true));
    assert_eq!(asks(&actions).len(), 1);
    // That is taken back: what is on its way comes, nothing more is asked for.
    engine.handle(SECOND, forced(false));
    assert_eq!(engine.backlog(root(1)).unwrap().reason, Reason::ScheduleClosed);
}

#[test]
fn the_backlog_says_why() {
    let mut engine = Engine::new(name("me"), Options::default());
    engine.handle(SECOND, wanted(10));
    let reason = |engine: &Engine| engine.backlog(root(1)).unwrap().reason;
    assert_eq!(reason(&engine), Reason::NoSource);
    engine.handle(SECOND, Event::PeerUp { peer: name("a") });
    engine.handle(SECOND, Event::HasAll { peer: name("a"), root: root(1) });
    assert_eq!(reason(&engine), Reason::Working);
    engine.handle(SECOND, Event::PeerDown { peer: name("a") });
    assert_eq!(reason(&engine), Reason::PeerDown);
    engine.handle(SECOND, Event::Paused { root: Some(root(1)) });
    assert_eq!(reason(&engine), Reason::Paused);
    assert_eq!(engine.backlog(root(1)).unwrap().missing, 10);
}

#[test]
fn a_silent_request_is_given_up_and_asked_of_another() {
    let mut engine = engine(10);
    engine.handle(SECOND, Event::HasAll { peer: name("b"), root: root(1) });
    let actions = engine.handle(10 * SECOND, Event::Tick);
    assert!(matches!(&actions[0], Action::Cancel { chunks, .. } if chunks.len() == 10));
    assert_eq!(asks(&actions)[0].0, name("b"));
}

#[test]
fn a_liar_is_reported_once_and_asked_again_when_it_was_away_or_after_growing_pauses() {
    let mut engine = engine(1000);
    let wrong = Event::Wrong { root: root(1), peer: name("a") };
    let actions = engine.handle(SECOND, wrong.clone());
    assert!(actions.contains(&Action::Report(Report::BadPeer { peer: name("a"), root: root(1) })));
    assert!(engine.handle(SECOND, wrong).is_empty());
    assert!(asks(&engine.handle(60 * SECOND, Event::Tick)).is_empty());
    assert_eq!(engine.backlog(root(1)).unwrap().reason, Reason::NoSource);

    // Nobody said that it was mended.
    assert!(!asks(&engine.handle(61 * SECOND, Event::Tick)).is_empty());
    let wrong = Event::Wrong { root: root(1), peer: name("a") };
    let actions = engine.handle(62 * SECOND, wrong.clone());
    assert!(actions.contains(&Action::Report(Report::BadPeer { peer: name("a"), root: root(1) })));
    let actions = engine.handle(75 * SECOND, Event::Tick);
    assert!(actions.contains(&Action::WakeAt(182 * SECOND)), "{actions:?}");
    assert!(asks(&engine.handle(181 * SECOND, Event::Tick)).is_empty());
    assert!(!asks(&engine.handle(182 * SECOND, Event::Tick)).is_empty());

    // It was away.
    engine.handle(183 * SECOND, wrong);
    engine.handle(184 * SECOND, Event::PeerDown { peer: name("a") });
    engine.handle(185 * SECOND, Event::PeerUp { peer: name("a") });
    let again = engine.handle(185 * SECOND, Event::HasAll { peer: name("a"), root: root(1) });
    assert!(!asks(&again).is_empty());
}

#[test]
fn the_boot_profile_goes_before_the_rest_in_its_order() {
    let mut engine = Engine::new(name("me"), Options { request_chunks: 2, ..Options::default() });
    engine.handle(SECOND, wanted(100));
    let profile = [50, 3, 51, 99].map(ChunkIndex);
    engine.handle(SECOND, Event::Profile { root: root(1), chunks: profile.to_vec() });
    engine.handle(SECOND, Event::PeerUp { peer: name("a") });
    let actions = engine.handle(SECOND, Event::HasAll { peer: name("a"), root: root(1) });
    let asked: Vec<_> = asks(&actions).into_iter().flat_map(|ask| ask.3).take(4).collect();
    assert_eq!(asked, profile);
}

#[test]
fn a_limit_is_kept_within_five_percent_also_where_chunks_come_compressed() {
    for sent_bytes in [CHUNK_SIZE, CHUNK_SIZE / 3] {
        let rate = 20_000_000;
        let bytes = world::bytes_in(rate, sent_bytes, 30 * SECOND);
        let ratio = bytes as f64 / (rate as f64 * 30.0);
        assert!((0.95..=1.05).contains(&ratio), "{ratio} of the limit at {sent_bytes} bytes a chunk");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever peers do: nothing is asked for twice at a time, no window is exceeded, the urgent
    /// goes first, and where one source stays, all comes.
    #[test]
    fn every_world_with_a_source_that_stays_ends_with_all_here(seed: u64, chunks in 1u32..400) {
        let mut world = World::new(seed, chunks);
        for _ in 0..600 {
            world.step();
        }
        world.settle();
        prop_assert!(world.is_complete(), "{:?}", world.backlog());
    }
}
