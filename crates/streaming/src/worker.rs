//! One thread and its connections: waits with epoll, serves who is ready, polls while it pays.

mod crowd;

use crate::connection::{Connection, Context, Progress};
use crate::directory::Peer;
use crate::kernel::{Convoy, Gather, short_slices};
use crate::mailbox::{Mailbox, Message, Token};
use crate::server::Shared;
use crate::spin::Spinner;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The buffer that a worker reads into, in bytes: larger than the largest option, and enough for
/// thousands of requests or a good part of a write.
const SCRATCH_BYTES: usize = 256 * 1024;
/// The events taken at once.
const MAX_EVENTS: usize = 256;
/// How often time-outs are looked at, where there can be any.
const TICK: Duration = Duration::from_millis(200);
/// Every so many polls of one connection the others are looked at.
const POLLS_PER_LOOK: u32 = 8;
/// How long a worker runs before the others have their turn: the shortest that there is. It does
/// little for each client, and so runs sooner after it was woken; beside a busy program the
/// slowest of 100 replies at 64x1 came after 0.6 to 0.8 ms instead of 1.2.
const SLICE: Duration = Duration::from_micros(100);
/// The mailbox's mark among the events.
const MAILBOX: u64 = u64::MAX;

/// What others know of a worker.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) mailbox: Arc<Mailbox>,
    /// Its connections, counted from the moment they are given to it.
    pub(crate) connections: AtomicUsize,
}

struct Place {
    generation: u32,
    connection: Option<Connection>,
    registered: EventFlags,
}

/// The thread's state.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    handle: Arc<WorkerHandle>,
    epoll: OwnedFd,
    places: Vec<Place>,
    free: Vec<u32>,
    live: usize,
    handshakes: usize,
    next_tick: Instant,
    stop_at: Option<Instant>,
    scratch: Vec<u8>,
    gather: Gather,
    events: Vec<Event>,
    messages: Vec<Message>,
    spinner: Spinner,
    /// For crowds, where the system lets us.
    convoy: Option<Convoy>,
    /// Connections whose answers wait for the convoy.
    due: Vec<u32>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, handle: Arc<WorkerHandle>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*handle.mailbox, EventData::new_u64(MAILBOX), EventFlags::IN)?;
        Ok(Self {
            shared,
            handle,
            epoll,
            places: Vec::new(),
            free: Vec::new(),
            live: 0,
            handshakes: 0,
            next_tick: Instant::now(),
            stop_at: None,
            scratch: vec![0; SCRATCH_BYTES],
            gather: Gather::new(),
            events: Vec::with_capacity(MAX_EVENTS),
            messages: Vec::new(),
            spinner: Spinner::default(),
            convoy: Convoy::new(),
            due: Vec::new(),
        })
    }

    /// Serves until it was told to stop and has ended every connection.
    pub(crate) fn run(mut self) {
        // Only latency is at stake where the kernel is too old for it.
        if let Err(error) = short_slices(SLICE) {
            tracing::debug!(%error, "the kernel gives no short time slices");
        }
        while self.stop_at.is_none() || self.live > 0 {
            if let Err(error) = self.wait(self.timeout()) {
                tracing::error!(%error, "epoll failed, a worker stops");
                return;
            }
            let hot = self.serve_events();
            self.tick();
            if self.spinner.wants_to(hot)
                && let Some(slot) = hot
            {
                self.poll(slot);
            }
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let waiting = self.handshakes > 0 || self.stop_at.is_some();
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        waiting.then_some(tick)
    }

    fn wait(&mut self, timeout: Option<Timespec>) -> io::Result<()> {
        self.events.clear();
        let into = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, into, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Serves all events; the connection, where exactly one had something to say.
    fn serve_events(&mut self) -> Option<u32> {
        let events = std::mem::take(&mut self.events);
        let (mut busy, mut last) = (0, None);
        let crowd = self.convoy.is_some() && events.len() >= crowd::CROWD;
        for event in &events {
            let data = event.data.u64();
            if data == MAILBOX {
                self.read_mail();
                busy += 2; // never poll one connection while others wait for the pool
            } else if let Some(slot) = self.slot_of(data) {
                let served = match crowd && { event.flags } == EventFlags::IN {
                    true => self.take_in(slot),
                    false => self.serve(slot, event.flags),
                };
                if served == Progress::Did {
                    busy += 1;
                    last = Some(slot);
                }
            }
        }
        self.events = events;
        self.send_due();
        last.filter(|_| busy == 1)
    }

    /// Polls one connection for a short while, and now and then looks at the others.
    fn poll(&mut self, slot: u32) {
        let (mut deadline, mut polls, mut flags) = (Spinner::deadline(), 0, EventFlags::IN);
        loop {
            match self.serve(slot, flags) {
                Progress::Did => {
                    self.spinner.hit();
                    deadline = Spinner::deadline();
                }
                Progress::Ended => return,
                Progress::Idle if Instant::now() > deadline => return self.spinner.miss(),
                Progress::Idle => std::hint::spin_loop(),
            }
            polls += 1;
            flags = EventFlags::IN;
            if polls % POLLS_PER_LOOK == 0 {
                match self.look_at_others(slot) {
                    Some(own) => flags |= own,
                    None => return,
                }
            }
        }
    }

    /// What epoll tells about `slot` now; none where it was about others, who are served then.
    fn look_at_others(&mut self, slot: u32) -> Option<EventFlags> {
        self.wait(Some(Timespec { tv_sec: 0, tv_nsec: 0 })).ok()?;
        if self.events.iter().all(|event| self.slot_of(event.data.u64()) == Some(slot)) {
            return Some(self.events.iter().fold(EventFlags::empty(), |all, event| all | event.flags));
        }
        self.serve_events();
        self.tick();
        None
    }

    /// The place of an event's connection, where that is still there.
    fn slot_of(&self, data: u64) -> Option<u32> {
        let (slot, generation) = (data as u32, (data >> 32) as u32);
        let place = self.places.get(slot as usize)?;
        (data != MAILBOX && place.generation == generation && place.connection.is_some()).then_some(slot)
    }

    /// Serves one connection for one event.
    fn serve(&mut self, slot: u32, flags: EventFlags) -> Progress {
        let token = self.token(slot);
        let place = &mut self.places[slot as usize];
        let Some(connection) = &mut place.connection else { return Progress::Ended };
        let cx = Context { shared: &self.shared, mailbox: &self.handle.mailbox, token };
        let was_handshake = connection.handshake_since().is_some();
        let mut progress = Progress::Idle;
        if flags.contains(EventFlags::OUT) {
            progress = connection.flush(&mut self.gather);
            if progress != Progress::Ended {
                progress = connection.resume(&mut self.scratch, &mut self.gather, &cx);
            }
        }
        let readable = flags.contains(EventFlags::IN) || connection.holds_plaintext();
        if progress != Progress::Ended && readable {
            progress = connection.readable(&mut self.scratch, &mut self.gather, &cx);
        }
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP) && progress == Progress::Idle;
        if was_handshake && connection.handshake_since().is_none() {
            self.handshakes -= 1;
        }
        if broken || progress == Progress::Ended {
            self.remove(slot);
            return Progress::Ended;
        }
        self.register(slot);
        progress
    }

    fn token(&self, slot: u32) -> Token {
        Token { slot, generation: self.places[slot as usize].generation }
    }

    /// Tells epoll what the connection waits for, where that has changed.
    #[inline]
    fn register(&mut self, slot: u32) {
        let place = &mut self.places[slot as usize];
        let Some(connection) = &place.connection else { return };
        let interest = connection.interest();
        if interest == place.registered {
            return;
        }
        let data = EventData::new_u64(u64::from(place.generation) << 32 | u64::from(slot));
        match epoll::modify(&self.epoll, connection.socket(), data, interest) {
            Ok(()) => place.registered = interest,
            Err(error) => {
                tracing::error!(%error, "epoll refuses a connection, it is dropped");
                self.remove(slot);
            }
        }
    }

    fn read_mail(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        self.handle.mailbox.take(&mut messages);
        let mut touched = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Accepted(socket, peer) => self.accept(socket, peer),
                Message::Done(token, outcome) => {
                    if let Some(connection) = self.connection(token) {
                        connection.done(outcome);
                        touched.push(token);
                    }
                }
                Message::CloseExport(name) => self.close_export(&name),
                Message::Stop(at) => self.stop(at),
            }
        }
        self.messages = messages;
        touched.dedup();
        for token in touched {
            if self.connection(token).is_some() {
                self.serve(token.slot, EventFlags::OUT);
            }
        }
    }

    fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        let place = self.places.get_mut(token.slot as usize)?;
        if place.generation == token.generation { place.connection.as_mut() } else { None }
    }

    fn accept(&mut self, socket: OwnedFd, peer: Peer) {
        if self.stop_at.is_some() {
            self.forget_connection();
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            let registered = EventFlags::empty();
            self.places.push(Place { generation: 0, connection: None, registered });
            self.places.len() as u32 - 1
        });
        let connection = Connection::new(socket, peer, &self.shared);
        let place = &mut self.places[slot as usize];
        let data = EventData::new_u64(u64::from(place.generation) << 32 | u64::from(slot));
        let added = epoll::add(&self.epoll, connection.socket(), data, EventFlags::IN);
        place.registered = EventFlags::IN;
        place.connection = Some(connection);
        self.live += 1;
        self.handshakes += 1;
        match added {
            Ok(()) => {
                self.serve(slot, EventFlags::OUT);
            }
            Err(error) => {
                tracing::warn!(%error, %peer, "a connection cannot be served");
                self.remove(slot);
            }
        }
    }

    /// Ends a connection; jobs of it that are under way find nobody.
    fn remove(&mut self, slot: u32) {
        let place = &mut self.places[slot as usize];
        let Some(connection) = place.connection.take() else { return };
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        self.live -= 1;
        if connection.handshake_since().is_some() {
            self.handshakes -= 1;
        }
        self.forget_connection();
        if let Some(serving) = connection.serving() {
            let session = &serving.session;
            let totals = self.shared.sessions.end(session);
            self.shared.directory.closed(&session.name, session.peer, &totals);
        }
    }

    fn forget_connection(&self) {
        self.handle.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Looks at the time-outs, five times a second at most.
    fn tick(&mut self) {
        if self.handshakes == 0 && self.stop_at.is_none() {
            return;
        }
        let now = Instant::now();
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let timeout = self.shared.handshake_timeout;
        let late = |since: Instant| now.duration_since(since) > timeout;
        let stop = self.stop_at.is_some_and(|at| now >= at);
        for slot in 0..self.places.len() as u32 {
            let Some(connection) = &self.places[slot as usize].connection else { continue };
            if stop || connection.handshake_since().is_some_and(late) {
                self.remove(slot);
            }
        }
    }

    fn close_export(&mut self, name: &str) {
        let named = |connection: &Connection| connection.serving().is_some_and(|s| s.session.name == name);
        for slot in 0..self.places.len() as u32 {
            if self.places[slot as usize].connection.as_ref().is_some_and(named) {
                self.remove(slot);
            }
        }
    }

    fn stop(&mut self, at: Instant) {
        self.stop_at = Some(at);
        for slot in 0..self.places.len() as u32 {
            let Some(connection) = &mut self.places[slot as usize].connection else { continue };
            connection.wind_down();
            if connection.is_over() || connection.handshake_since().is_some() {
                self.remove(slot);
            } else {
                self.register(slot);
            }
        }
    }
}
