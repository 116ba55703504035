//! Many connections with something to say at once: all are read, then all are answered together.
//!
//! Measured at 64 clients with one request each: 178,000 requests a second at 5.5 us of the
//! server's time instead of 116,000 at 9.1, the slowest hundredth after 0.6 ms instead of 2.2.

use super::Worker;
use crate::connection::{Context, Progress};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

/// Connections with something to say at once from which on their answers are sent together.
pub(super) const CROWD: usize = 3;

impl Worker {
    /// Serves one connection of a crowd: what it is answered is sent with the others'.
    pub(super) fn take_in(&mut self, slot: u32) -> Progress {
        let token = self.token(slot);
        let cx = Context { shared: &self.shared, mailbox: &self.handle.mailbox, token };
        let connection = self.places[slot as usize].connection.as_mut();
        let Some(connection) = connection.filter(|connection| connection.may_join()) else {
            return self.serve(slot, EventFlags::IN);
        };
        let progress = connection.take_in(&mut self.scratch, &cx);
        match progress {
            Progress::Ended => self.remove(slot),
            Progress::Did => self.due.push(slot),
            Progress::Idle => {}
        }
        progress
    }

    /// Sends what the crowd is due, with few calls.
    pub(super) fn send_due(&mut self) {
        let Some(mut convoy) = self.convoy.take() else { return };
        let mut due = std::mem::take(&mut self.due);
        due.reverse(); // first come, first served
        let mut aboard = Vec::new();
        while !due.is_empty() {
            while let Some(slot) = due.pop_if(|_| !convoy.is_full()) {
                let connection = self.places[slot as usize].connection.as_ref();
                if connection.is_some_and(|connection| connection.join(&mut convoy, &mut self.gather)) {
                    aboard.push(slot);
                } else {
                    self.arrived(slot, Ok(0));
                }
            }
            let usable = convoy.send();
            for (slot, sent) in aboard.drain(..).zip(convoy.take_results()) {
                self.arrived(slot, sent);
            }
            if !usable {
                due.drain(..).for_each(|slot| self.arrived(slot, Ok(0)));
                return;
            }
        }
        (self.convoy, self.due) = (Some(convoy), due);
    }

    fn arrived(&mut self, slot: u32, sent: Result<usize, Errno>) {
        let token = self.token(slot);
        let cx = Context { shared: &self.shared, mailbox: &self.handle.mailbox, token };
        let Some(connection) = &mut self.places[slot as usize].connection else { return };
        match connection.arrived(sent, &mut self.scratch, &mut self.gather, &cx) {
            Progress::Ended => self.remove(slot),
            _ => self.register(slot),
        }
    }
}
