//! Which faults come, in which order, for how long: the same for the same seed.

use super::random::Random;
use std::fmt;
use std::time::Duration;

/// One fault. Servers are numbered as in `Farm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What one server sends to another is lost.
    CutOneWay {
        /// The sender.
        from: usize,
        /// Who hears nothing.
        to: usize,
    },
    /// Two servers do not hear each other.
    CutServers {
        /// One of them.
        one: usize,
        /// The other one.
        other: usize,
    },
    /// A server and members of etcd do not hear each other.
    CutDatabase {
        /// The server.
        server: usize,
        /// The member, or all where there is none.
        member: Option<usize>,
    },
    /// A server is stopped in its tracks, and goes on later as if nothing had been.
    Freeze {
        /// The server.
        server: usize,
    },
    /// A server is killed, and started again.
    KillServer {
        /// The server.
        server: usize,
    },
    /// A member of etcd is killed, and started again.
    KillMember {
        /// The member.
        member: usize,
    },
    /// The store of the server that has one of its own is filled to the last byte.
    FullDisk,
    /// Bytes of layers' files change under a server that runs.
    FlippedBytes {
        /// The server.
        server: usize,
    },
    /// A server that sends wrong bytes is all that another one reaches.
    LyingPeer {
        /// In whose place somebody lies.
        liar: usize,
        /// Who asks.
        asker: usize,
    },
}

/// The kinds of faults.
pub const KINDS: usize = 9;

impl Fault {
    /// A fault of the kind `kind` (0 to [`KINDS`] - 1) on a farm of so many servers and members, one
    /// of which has a small store.
    fn draw(kind: usize, random: &mut Random, servers: usize, members: usize, small: usize) -> Self {
        let one = random.index(servers);
        let other = (one + 1 + random.index(servers - 1)) % servers;
        match kind {
            0 => Self::CutOneWay { from: one, to: other },
            1 => Self::CutServers { one, other },
            2 => Self::CutDatabase {
                server: one,
                member: Some(random.index(members)).filter(|_| random.below(2) == 0),
            },
            3 => Self::Freeze { server: one },
            4 => Self::KillServer { server: one },
            5 => Self::KillMember { member: random.index(members) },
            6 => Self::FullDisk,
            // Memory is no disk: what is written there is in every reader's page at once.
            7 if one == small => Self::FlippedBytes { server: other },
            7 => Self::FlippedBytes { server: one },
            _ => Self::LyingPeer { liar: one, asker: other },
        }
    }

    /// What kind it is, for a table.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CutOneWay { .. } => "cut one way",
            Self::CutServers { .. } => "cut both ways",
            Self::CutDatabase { .. } => "cut from etcd",
            Self::Freeze { .. } => "frozen server",
            Self::KillServer { .. } => "killed server",
            Self::KillMember { .. } => "killed etcd member",
            Self::FullDisk => "full disk",
            Self::FlippedBytes { .. } => "flipped bytes",
            Self::LyingPeer { .. } => "lying peer",
        }
    }
}

/// `cut one way: pvs01 to pvs02`
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |n: usize| format!("pvs{:02}", n + 1);
        write!(f, "{}", self.kind())?;
        match self {
            Self::CutOneWay { from, to } => write!(f, ": {} to {}", name(*from), name(*to)),
            Self::CutServers { one, other } => write!(f, ": {} and {}", name(*one), name(*other)),
            Self::CutDatabase { server, member: None } => write!(f, ": {}", name(*server)),
            Self::CutDatabase { server, member: Some(member) } => {
                write!(f, ": {} and member {member}", name(*server))
            }
            Self::Freeze { server } | Self::KillServer { server } | Self::FlippedBytes { server } => {
                write!(f, ": {}", name(*server))
            }
            Self::KillMember { member } => write!(f, ": member {member}"),
            Self::FullDisk => Ok(()),
            Self::LyingPeer { liar, asker } => write!(f, ": {} to {}", name(*liar), name(*asker)),
        }
    }
}

/// A fault and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// The fault.
    pub fault: Fault,
    /// Between breaking and mending.
    pub lasts: Duration,
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// How many faults; every kind comes before one comes again.
    pub faults: usize,
    /// The shortest and the longest fault in seconds.
    pub lasts_s: (u64, u64),
    /// The same of a freeze, which has to outlast what waits for a server.
    pub freeze_s: (u64, u64),
}

/// Draws a plan for three servers with three members of etcd; `small` has a store of its own.
pub fn plan(seed: u64, scale: Scale, small: usize) -> Vec<Planned> {
    let mut random = Random::new(seed, 0);
    let mut kinds = Vec::new();
    while kinds.len() < scale.faults {
        let mut round: Vec<usize> = (0..KINDS).collect();
        random.shuffle(&mut round);
        kinds.extend(round);
    }
    kinds.truncate(scale.faults);
    let planned = |kind: usize| {
        let fault = Fault::draw(kind, &mut random, 3, 3, small);
        let (from, to) = if matches!(fault, Fault::Freeze { .. }) { scale.freeze_s } else { scale.lasts_s };
        let lasts = Duration::from_secs(from + random.below(to - from + 1));
        Planned { fault, lasts }
    };
    kinds.into_iter().map(planned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_gives_the_same_plan_again_and_every_kind_comes() {
        let scale = Scale { faults: 20, lasts_s: (3, 9), freeze_s: (20, 20) };
        let shown = |seed| -> Vec<String> {
            plan(seed, scale, 2).iter().map(|one| format!("{} {:?}", one.fault, one.lasts)).collect()
        };
        assert_eq!(shown(7), shown(7));
        assert_ne!(shown(7), shown(8));
        let first: BTreeSet<&str> = plan(7, scale, 2)[..KINDS].iter().map(|one| one.fault.kind()).collect();
        assert_eq!(first.len(), KINDS);
        for one in plan(9, scale, 2) {
            assert!(one.fault != Fault::FlippedBytes { server: 2 });
            let freeze = matches!(one.fault, Fault::Freeze { .. });
            assert_eq!(freeze, one.lasts == Duration::from_secs(20));
        }
    }
}
