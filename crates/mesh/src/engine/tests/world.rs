//! A random world around one engine, which checks every action as it comes.

use super::super::*;
use std::collections::BTreeMap;

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn root(number: u8) -> Root {
    Root::from_bytes([number; 32])
}

/// SplitMix64: the same numbers for the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

struct Asked {
    peer: Name,
    urgent: bool,
    open: BTreeSet<ChunkIndex>,
}

/// One engine among four peers; `p0` has it all and stays.
pub(super) struct World {
    engine: Engine,
    options: Options,
    random: Random,
    now: Duration,
    wake: Duration,
    chunks: u32,
    asked: BTreeMap<RequestId, Asked>,
    up: BTreeSet<Name>,
    here: ChunkSet,
    complete: bool,
}

impl World {
    pub(super) fn new(seed: u64, chunks: u32) -> Self {
        let options = Options { window: 24, on_demand_window: 6, request_chunks: 8, ..Options::default() };
        let engine = Engine::new(name("me"), options);
        let (random, here) = (Random(seed), ChunkSet::empty(chunks));
        let (asked, up, zero) = (BTreeMap::new(), BTreeSet::new(), Duration::ZERO);
        let mut world = Self {
            engine,
            options,
            random,
            now: zero,
            wake: Duration::MAX,
            chunks,
            asked,
            up,
            here,
            complete: false,
        };
        let missing = ChunkSet::full(chunks);
        world.tell(Event::Wanted { root: root(1), missing, priority: Priority::Bulk });
        world.come_up(0);
        world
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn backlog(&self) -> Option<Backlog> {
        self.engine.backlog(root(1))
    }

    pub(super) fn step(&mut self) {
        self.now += Duration::from_millis(self.random.below(300));
        let chunk = ChunkIndex(self.random.below(self.chunks.into()) as u32);
        match self.random.below(16) {
            0..6 => self.answer(),
            6 => self.fail(),
            7 => self.not_there(),
            8 => {
                let peer = 1 + self.random.below(3);
                self.come_up(peer);
            }
            9 => self.go_down(),
            10 => {
                let peer = name(&format!("p{}", 1 + self.random.below(3)));
                self.tell(Event::Wrong { root: root(1), peer });
            }
            11..13 => {
                self.tell(Event::NeedNow { root: root(1), chunks: vec![chunk, ChunkIndex(chunk.0 / 2)] })
            }
            13 => self.toggle(),
            14 => self.come(chunk, 0),
            _ => self.tell(Event::Tick),
        }
        let missing = self.engine.backlog(root(1)).map_or(0, |backlog| backlog.missing);
        assert_eq!(missing, self.chunks - self.here.count(), "the backlog is what is missing");
    }

    /// Ends all faults and answers everything.
    pub(super) fn settle(&mut self) {
        for event in [Event::DiskFree, Event::Slot(Slot::Open), Event::Resumed { root: None }] {
            self.tell(event);
        }
        for _ in 0..20_000 {
            match self.asked.is_empty() {
                _ if self.complete => return,
                false => self.answer(),
                true => {
                    self.now = self.now.max(self.wake);
                    self.tell(Event::Tick);
                }
            }
        }
    }

    fn come_up(&mut self, peer: u64) {
        let peer = name(&format!("p{peer}"));
        self.up.insert(peer.clone());
        self.tell(Event::PeerUp { peer: peer.clone() });
        match self.random.below(2) {
            1 if peer != name("p0") => {
                let bits = (0..self.chunks.div_ceil(8)).map(|_| self.random.below(256) as u8).collect();
                self.tell(Event::HasPart { peer, root: root(1), first: ChunkIndex(0), bits });
            }
            _ => self.tell(Event::HasAll { peer, root: root(1) }),
        }
    }

    fn go_down(&mut self) {
        let peer = name(&format!("p{}", 1 + self.random.below(3)));
        self.up.remove(&peer);
        self.asked.retain(|_, asked| asked.peer != peer);
        self.tell(Event::PeerDown { peer });
    }

    fn some_request(&mut self) -> Option<RequestId> {
        let at = self.random.below(self.asked.len().max(1) as u64);
        self.asked.keys().nth(at as usize).copied()
    }

    fn answer(&mut self) {
        let Some(id) = self.some_request() else { return };
        let chunk = *self.asked[&id].open.first().expect("empty requests are gone");
        let bytes = self.random.below(65_537) as u32;
        self.come(chunk, bytes);
    }

    fn come(&mut self, chunk: ChunkIndex, sent_bytes: u32) {
        self.here.insert(chunk);
        self.forget(chunk);
        self.tell(Event::Arrived { root: root(1), chunk, sent_bytes });
    }

    fn fail(&mut self) {
        if let Some(id) = self.some_request() {
            self.asked.remove(&id);
            self.tell(Event::Failed { request: id });
        }
    }

    fn not_there(&mut self) {
        let Some(id) = self.some_request().filter(|id| self.asked[id].peer != name("p0")) else { return };
        let chunk = *self.asked[&id].open.last().expect("empty requests are gone");
        self.forget(chunk);
        self.tell(Event::NotThere { request: id, chunks: vec![chunk] });
    }

    fn toggle(&mut self) {
        let events = [
            Event::DiskFull,
            Event::DiskFree,
            Event::Slot(Slot::Closed),
            Event::Slot(Slot::Limited(1_000_000)),
            Event::Slot(Slot::Open),
            Event::Paused { root: None },
            Event::Resumed { root: None },
        ];
        let at = self.random.below(events.len() as u64) as usize;
        self.tell(events[at].clone());
    }

    fn forget(&mut self, chunk: ChunkIndex) {
        self.asked.values_mut().for_each(|asked| _ = asked.open.remove(&chunk));
        self.asked.retain(|_, asked| !asked.open.is_empty());
    }

    fn tell(&mut self, event: Event) {
        for action in self.engine.handle(self.now, event) {
            self.check(action);
        }
    }

    fn check(&mut self, action: Action) {
        match action {
            Action::Ask { peer, priority, request, chunks, .. } => {
                assert!(self.up.contains(&peer), "who is down is not asked");
                let urgent = priority == Priority::OnDemand;
                for chunk in &chunks {
                    assert!(!self.here.contains(*chunk), "what is here is not asked for");
                    let twice = self.asked.values().any(|asked| asked.open.contains(chunk));
                    assert!(!twice, "{chunk:?} is asked for while it is asked for");
                }
                let open = chunks.into_iter().collect();
                self.asked.insert(request, Asked { peer: peer.clone(), urgent, open });
                self.check_window(&peer, urgent);
            }
            Action::Cancel { request, chunks } => {
                if let Some(asked) = self.asked.get_mut(&request) {
                    chunks.iter().for_each(|chunk| _ = asked.open.remove(chunk));
                }
                self.asked.retain(|_, asked| !asked.open.is_empty());
            }
            Action::Completed(_) => {
                assert_eq!(self.here.count(), self.chunks, "complete is complete");
                self.complete = true;
            }
            Action::WakeAt(at) => {
                assert!(at > self.now, "no waking in the past");
                self.wake = at;
            }
            Action::Report(_) => {}
        }
    }

    fn check_window(&self, peer: &Name, urgent: bool) {
        let same = self.asked.values().filter(|asked| asked.peer == *peer && asked.urgent == urgent);
        let window = if urgent { self.options.on_demand_window } else { self.options.window };
        let waiting: usize = same.map(|asked| asked.open.len()).sum();
        assert!(waiting <= window, "{waiting} chunks wait at one peer");
    }
}

/// How many bytes come within `time` under a limit, from a peer that answers in 5 ms.
pub(super) fn bytes_in(rate: u64, sent_bytes: u32, time: Duration) -> u64 {
    let mut engine = Engine::new(name("me"), Options::default());
    let (mut now, mut wake, mut bytes) = (Duration::ZERO, Duration::MAX, 0);
    let mut coming = std::collections::VecDeque::new();
    let missing = ChunkSet::full(100_000);
    let mut events = std::collections::VecDeque::from([
        Event::Limit { peer: None, priority: Priority::Bulk, bytes_per_s: Some(rate) },
        Event::PeerUp { peer: name("a") },
        Event::HasAll { peer: name("a"), root: root(1) },
        Event::Wanted { root: root(1), missing, priority: Priority::Bulk },
    ]);
    while now < time {
        let event = events.pop_front().unwrap_or(Event::Tick);
        for action in engine.handle(now, event) {
            match action {
                Action::Ask { chunks, .. } => {
                    coming.extend(chunks.into_iter().map(|chunk| (now + Duration::from_millis(5), chunk)));
                }
                Action::WakeAt(at) => wake = at,
                _ => {}
            }
        }
        if !events.is_empty() {
            continue;
        }
        let next = coming.front().map_or(Duration::MAX, |(at, _)| *at);
        now = next.min(wake).max(now);
        if next == now {
            let (_, chunk) = coming.pop_front().expect("it was looked at");
            bytes += u64::from(sent_bytes);
            events.push_back(Event::Arrived { root: root(1), chunk, sent_bytes });
        } else {
            wake = Duration::MAX;
        }
    }
    bytes
}
