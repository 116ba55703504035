//! The links between the servers, and to the database.

use crate::random::Random;
use mesh::engine::RequestId;
use model::{ChunkIndex, Root};
use std::time::Duration;

/// How many servers there are.
pub const SERVERS: usize = 3;

/// What servers say to each other.
#[derive(Clone, Debug)]
pub enum Message {
    /// Says that the sender lives, and what it has durably.
    Alive(Vec<(Root, Vec<u32>)>),
    /// Asks for chunks.
    Ask {
        /// The request, as the asker numbers it.
        request: RequestId,
        /// The root.
        root: Root,
        /// The chunks.
        chunks: Vec<ChunkIndex>,
    },
    /// One chunk of an answer.
    Chunk {
        /// The root.
        root: Root,
        /// The chunk.
        chunk: ChunkIndex,
        /// Its bytes.
        value: u64,
    },
    /// Chunks that are not there.
    NotThere {
        /// The request.
        request: RequestId,
        /// The chunks.
        chunks: Vec<ChunkIndex>,
    },
}

/// Which links work.
#[derive(Clone, Debug, Default)]
pub struct Network {
    cut: [[bool; SERVERS]; SERVERS],
    from_database: [bool; SERVERS],
}

impl Network {
    /// Cuts something: a link one way or both ways, or a server's way to the database.
    pub fn cut(&mut self, random: &mut Random) -> String {
        let (from, to) = (random.below(SERVERS as u64) as usize, random.below(SERVERS as u64) as usize);
        match random.below(3) {
            0 if from != to => {
                self.cut[from][to] = true;
                format!("nothing goes from {} to {} any more", name(from), name(to))
            }
            1 if from != to => {
                (self.cut[from][to], self.cut[to][from]) = (true, true);
                format!("{} and {} are cut off from each other", name(from), name(to))
            }
            _ => {
                self.from_database[from] = true;
                format!("{} is cut off from the database", name(from))
            }
        }
    }

    /// Everything works again.
    pub fn heal(&mut self) {
        *self = Self::default();
    }

    /// How long a message takes; none where it is lost.
    pub fn delay(&self, from: usize, to: usize, random: &mut Random) -> Option<Duration> {
        let lost = self.cut[from][to] || random.once_in(200);
        (!lost).then(|| Duration::from_millis(1 + random.below(30)))
    }

    /// How long a message to or from the database takes; none where it is lost.
    pub fn database_delay(&self, server: usize, random: &mut Random) -> Option<Duration> {
        let lost = self.from_database[server] || random.once_in(100);
        (!lost).then(|| Duration::from_millis(1 + random.below(60)))
    }
}

/// The name of a server, for people.
pub fn name(server: usize) -> &'static str {
    ["pvs01", "pvs02", "pvs03"][server]
}
