//! One sender, three receivers: what leaves the sender is little more than the content once.

use super::super::*;
use super::world::{Random, name, root};
use std::collections::VecDeque;

const STEP: Duration = Duration::from_millis(1);
/// How often receivers tell what they have.
const TOLD_EVERY: u32 = 250;

struct Server {
    name: Name,
    engine: Engine,
    here: ChunkSet,
    /// What peers asked of this server and it has not sent yet.
    to_send: VecDeque<(usize, ChunkIndex)>,
    /// Chunks that it sends in a step.
    speed: usize,
    sent: usize,
    done: bool,
}

/// Runs until all receivers have `chunks`; returns the chunks that the sender sent, and the
/// steps that each receiver took.
fn run(chunks: u32, speeds: [usize; 4]) -> (usize, Vec<u32>) {
    let names = ["sender", "r1", "r2", "r3"].map(name);
    let mut servers: Vec<Server> =
        names.iter().zip(speeds).map(|(own, speed)| server(own, speed, chunks)).collect();
    for to in 1..4 {
        for from in (0..4).filter(|from| *from != to) {
            tell(&mut servers, to, Duration::ZERO, Event::PeerUp { peer: names[from].clone() });
        }
        let missing = ChunkSet::full(chunks);
        let event = Event::HasAll { peer: names[0].clone(), root: root(1) };
        tell(&mut servers, to, Duration::ZERO, event);
        announce(&mut servers, Duration::ZERO);
        let event = Event::Wanted { root: root(1), missing, priority: Priority::Bulk };
        tell(&mut servers, to, Duration::ZERO, event);
    }
    let mut took = vec![0; 4];
    for step in 0..1_000_000 {
        let now = STEP * step;
        (0..4).for_each(|from| send(&mut servers, from, now));
        if step % TOLD_EVERY == 0 {
            announce(&mut servers, now);
        }
        (1..4).filter(|at| !servers[*at].done).for_each(|at| took[at] = step);
        if servers[1..].iter().all(|server| server.done) {
            return (servers[0].sent, took);
        }
        (1..4).for_each(|to| tell(&mut servers, to, now, Event::Tick));
    }
    panic!("it never ended: {:?}", servers[1].engine.backlog(root(1)));
}

fn server(own: &Name, speed: usize, chunks: u32) -> Server {
    let engine = Engine::new(own.clone(), Options::default());
    let here = if own.as_str() == "sender" { ChunkSet::full(chunks) } else { ChunkSet::empty(chunks) };
    Server { name: own.clone(), engine, here, to_send: VecDeque::new(), speed, sent: 0, done: false }
}

fn send(servers: &mut [Server], from: usize, now: Duration) {
    for _ in 0..servers[from].speed {
        // Connections share the uplink: whose turn it is, is by chance.
        let len = servers[from].to_send.len().max(1) as u64;
        let at = Random(servers[from].sent as u64).below(len) as usize;
        let Some((to, chunk)) = servers[from].to_send.remove(at) else { return };
        assert!(servers[from].here.contains(chunk), "only what is there is asked for");
        servers[from].sent += 1;
        servers[to].here.insert(chunk);
        tell(servers, to, now, Event::Arrived { root: root(1), chunk, sent_bytes: CHUNK_SIZE });
    }
}

fn announce(servers: &mut [Server], now: Duration) {
    for from in 1..4 {
        let mut bits = vec![0; servers[from].here.len().div_ceil(8) as usize];
        servers[from].here.iter().for_each(|chunk| bits[chunk.0 as usize / 8] |= 1 << (chunk.0 % 8));
        for to in (1..4).filter(|to| *to != from) {
            let (peer, first, bits) = (servers[from].name.clone(), ChunkIndex(0), bits.clone());
            tell(servers, to, now, Event::HasPart { peer, root: root(1), first, bits });
        }
    }
}

fn tell(servers: &mut [Server], to: usize, now: Duration, event: Event) {
    for action in servers[to].engine.handle(now, event) {
        match action {
            Action::Ask { peer, chunks, .. } => {
                let from = servers.iter().position(|server| server.name == peer).expect("a server");
                servers[from].to_send.extend(chunks.into_iter().map(|chunk| (to, chunk)));
            }
            Action::Completed(_) => servers[to].done = true,
            _ => {}
        }
    }
}

#[test]
fn a_sender_sends_little_more_than_the_content_once_to_three_receivers() {
    // Where receivers send slower than the sender, they are waited for all the same.
    for speeds in [[2, 4, 4, 4], [4, 4, 4, 4], [6, 4, 4, 4]] {
        for chunks in [300, 3000, 20_000, 60_000] {
            let (sent, _) = run(chunks, speeds);
            let ratio = sent as f64 / f64::from(chunks);
            assert!(ratio <= 1.3, "{ratio} times {chunks} chunks left the sender, {speeds:?}");
        }
    }
}

#[test]
fn a_receiver_that_sends_slowly_costs_the_others_no_more_time_than_sharing_saves() {
    let (_, took) = run(20_000, [4, 4, 4, 1]);
    let alone = 3 * 20_000 / 4;
    assert!(took[1].max(took[2]) <= alone + 5000, "{took:?}");
}

#[test]
fn a_receiver_that_never_answers_holds_up_the_others_for_one_silence() {
    let (_, took) = run(3000, [4, 4, 4, 4]);
    let (_, with_mute) = run(3000, [4, 4, 4, 0]);
    let last = |took: &[u32]| took[1].max(took[2]);
    let silence = Options::default().silence.as_millis() as u32;
    assert!(last(&with_mute) <= 2 * last(&took) + silence, "{with_mute:?} against {took:?}");
}
