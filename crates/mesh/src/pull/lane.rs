//! The threads that take in what peers answer: two for each peer's bulk, so that while one answer is
//! made durable the next one comes, and one for what devices wait for.
//!
//! They end when the peer is gone. What waits in their queues is what the engine asked for, and so
//! bounded by its windows.

use super::Shared;
use super::answer::Asked;
use crate::background::stand_back;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use store::Urgency;

/// Threads for the bulk of one peer.
const BULK_THREADS: usize = 2;

/// The way to one peer's threads; they end when this is dropped.
pub(super) struct Lanes {
    on_demand: Sender<Asked>,
    bulk: Sender<Asked>,
}

impl Lanes {
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let on_demand = start(shared, "mesh-now", 1, || ())?;
        Ok(Self { on_demand, bulk: start(shared, "mesh-bulk", BULK_THREADS, stand_back)? })
    }

    /// Hands a request over whose answer comes; false where nobody takes it.
    pub(super) fn hand(&self, asked: Asked) -> bool {
        let lane = if asked.urgency == Urgency::OnDemand { &self.on_demand } else { &self.bulk };
        lane.send(asked).is_ok()
    }
}

fn start(shared: &Arc<Shared>, name: &str, threads: usize, first: fn()) -> io::Result<Sender<Asked>> {
    let (sender, queue) = channel();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..threads {
        let (shared, queue) = (Arc::clone(shared), Arc::clone(&queue));
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            first();
            run(&shared, &queue);
        })?;
    }
    Ok(sender)
}

fn run(shared: &Shared, queue: &Mutex<Receiver<Asked>>) {
    loop {
        let next = queue.lock().expect("no thread panics while it takes from the queue").recv();
        let Ok(asked) = next else { return };
        if shared.state().stopped {
            return;
        }
        let device_waits = asked.urgency == Urgency::OnDemand;
        let actions = shared.take_in(asked).actions;
        if device_waits {
            shared.changed.notify_all();
        }
        shared.perform(actions, None);
    }
}
