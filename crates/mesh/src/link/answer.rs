//! Answering a peer's requests: on threads that may block, a few at a time for each connection.

use super::connection::{Connection, Ended};
use super::{Inner, MAX_REQUESTS, NO_PANIC};
use protocol::mesh::{Frame, Refused, Request, Response};
use std::sync::Arc;
use tokio::sync::watch;

/// Takes a request; its answer follows when it is its turn.
pub(super) fn begin(
    inner: &Arc<Inner>,
    connection: &Arc<Connection>,
    id: u32,
    request: Request,
) -> Result<(), Ended> {
    let mut answering = connection.answering.lock().expect(NO_PANIC);
    if answering.len() >= MAX_REQUESTS {
        return Err(Ended::Misplaced("more requests at once than are answered"));
    }
    let cancelled = watch::Sender::new(false);
    let is_cancelled = cancelled.subscribe();
    if answering.insert(id, cancelled).is_some() {
        return Err(Ended::Misplaced("a request with an id that is in use"));
    }
    tokio::spawn(run(Arc::clone(inner), Arc::clone(connection), id, request, is_cancelled));
    Ok(())
}

/// Nobody wants this answer any more; what ends it is still sent.
pub(super) fn cancel(connection: &Connection, id: u32) {
    if let Some(cancelled) = connection.answering.lock().expect(NO_PANIC).get(&id) {
        cancelled.send_replace(true);
    }
}

async fn run(
    inner: Arc<Inner>,
    connection: Arc<Connection>,
    id: u32,
    request: Request,
    cancelled: watch::Receiver<bool>,
) {
    // Closed with the connection.
    let Ok(_turn) = connection.turns.acquire().await else { return };
    let answering = Arc::clone(&connection);
    let answered = tokio::task::spawn_blocking(move || {
        let mut ended = false;
        inner.handler.answer(&request, &mut |response| {
            let ends = response.ends();
            let wanted = ends || !*cancelled.borrow();
            ended |= ends;
            wanted && send(&answering, id, response)
        });
        ended || send(&answering, id, Response::Done)
    });
    if answered.await.is_err() {
        let why = Refused::new("the server failed while it answered; see its log");
        forget(&connection, id);
        let _ = connection.answers.send(Frame::Response { id, response: Response::Refused(why) }).await;
    }
}

/// Waits for room where the peer reads slowly; false where the connection is gone.
fn send(connection: &Connection, id: u32, response: Response) -> bool {
    if response.ends() {
        // Before the peer hears of the end: it may use the id again.
        forget(connection, id);
    }
    connection.answers.blocking_send(Frame::Response { id, response }).is_ok()
}

fn forget(connection: &Connection, id: u32) {
    connection.answering.lock().expect(NO_PANIC).remove(&id);
}
