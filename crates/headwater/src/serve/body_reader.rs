//! A request's body as a blocking reader, for work on a thread.

use axum::body::BodyDataStream;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// How many pieces of the body wait for the reader; the sender is held back beyond.
const AHEAD: usize = 16;

/// The reading end. A body that ends without having been complete is an error, never an end: half
/// an image must not be taken for a whole one.
pub(super) struct BodyReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    complete: bool,
}

enum Piece {
    Data(Bytes),
    Failed(String),
    End,
}

/// The feeding end.
pub(super) struct BodyFeed(mpsc::Sender<Piece>);

/// A reader and its feed.
pub(super) fn pair() -> (BodyFeed, BodyReader) {
    let (sender, pieces) = mpsc::channel(AHEAD);
    (BodyFeed(sender), BodyReader { pieces, current: Bytes::new(), complete: false })
}

impl BodyFeed {
    /// Feeds the whole body; ends early where nobody reads any more.
    pub(super) async fn feed(self, mut body: BodyDataStream) {
        while let Some(piece) = body.next().await {
            let piece = piece.map_or_else(|error| Piece::Failed(error.to_string()), Piece::Data);
            let failed = matches!(piece, Piece::Failed(_));
            if self.0.send(piece).await.is_err() || failed {
                return;
            }
        }
        // Where the reader is gone, it needs no end.
        let _ = self.0.send(Piece::End).await;
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.complete {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => self.current = bytes,
                Some(Piece::End) => self.complete = true,
                Some(Piece::Failed(error)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the sender went away")),
            }
        }
        let len = buffer.len().min(self.current.len());
        buffer[..len].copy_from_slice(&self.current[..len]);
        self.current.advance(len);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn read_all(mut reader: BodyReader) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end() {
        let (feed, reader) = pair();
        let body = vec![7; 300_000];
        let read = tokio::task::spawn_blocking(|| read_all(reader));
        feed.feed(Body::from(body.clone()).into_data_stream()).await;
        assert_eq!(read.await.unwrap().unwrap(), body);
    }

    #[tokio::test]
    async fn half_a_body_is_an_error() {
        let (feed, reader) = pair();
        let pieces = [Ok(Bytes::from_static(b"half")), Err(io::Error::other("reset"))];
        let read = tokio::task::spawn_blocking(|| read_all(reader));
        feed.feed(Body::from_stream(futures::stream::iter(pieces)).into_data_stream()).await;
        assert!(read.await.unwrap().is_err());

        let (feed, reader) = pair();
        drop(feed);
        assert!(tokio::task::spawn_blocking(|| read_all(reader)).await.unwrap().is_err());
    }
}
