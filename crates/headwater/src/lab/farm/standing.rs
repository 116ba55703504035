//! What has arrived on which server, and how it is drawn.
//!
//! Pure but for the asking. A server that does not answer is shown as such.

use crate::cli::output::bytes;
use api::ReplicationView;
use model::Name;

/// How one server stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its name.
    pub(super) server: String,
    /// What it says; none where it does not answer.
    pub(super) says: Option<ReplicationView>,
}

impl Standing {
    /// Whether it has this many versions, and lacks nothing that it knows of.
    pub(super) fn has(&self, versions: u32) -> bool {
        let has = |says: &ReplicationView| says.complete_versions >= versions && says.lacking_versions == 0;
        self.says.as_ref().is_some_and(has)
    }

    /// Whether it is connected with this many others.
    pub(super) fn connected(&self, others: usize) -> bool {
        self.says.as_ref().is_some_and(|says| says.peers.len() >= others)
    }

    fn line(&self) -> String {
        let Some(says) = &self.says else { return format!("  {:8} does not answer", self.server) };
        let coming = match says.lacking_versions {
            0 => "nothing missing".to_owned(),
            lacking => format!(
                "{lacking} coming, {} missing, {}/s",
                bytes(says.missing_bytes),
                bytes(says.bytes_per_s)
            ),
        };
        let peers = says.peers.iter().map(Name::as_str).collect::<Vec<_>>().join(" ");
        let peers = if peers.is_empty() { "nobody".to_owned() } else { peers };
        let here = says.complete_versions;
        let plural = if here == 1 { "" } else { "s" };
        format!("  {:8} {here} version{plural} here, {coming}; connected to {peers}", self.server)
    }
}

/// A line for each server.
pub(super) fn draw(servers: &[Standing]) -> Vec<String> {
    servers.iter().map(Standing::line).collect()
}

/// What of it is news in a log: not the rate.
pub(super) fn gist(servers: &[Standing]) -> Vec<Option<(u32, usize)>> {
    let of = |says: &ReplicationView| (says.complete_versions, says.peers.len());
    servers.iter().map(|standing| standing.says.as_ref().map(of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(complete: u32, lacking: u32) -> Standing {
        let name = |text: &str| Name::new(text).unwrap();
        let says = ReplicationView {
            server: name("pvs02"),
            peers: vec![name("pvs01"), name("pvs03")],
            complete_versions: complete,
            lacking_versions: lacking,
            missing_bytes: 3 << 20,
            bytes_per_s: 1 << 20,
        };
        Standing { server: "pvs02".to_owned(), says: Some(says) }
    }

    #[test]
    fn what_comes_and_from_whom_is_said() {
        let lines = draw(&[standing(0, 1), standing(1, 0)]);
        assert_eq!(
            lines[0],
            "  pvs02    0 versions here, 1 coming, 3 MiB missing, 1 MiB/s; connected to pvs01 pvs03"
        );
        assert!(lines[1].contains("1 version here, nothing missing"), "{}", lines[1]);
    }

    #[test]
    fn a_server_has_what_is_complete_and_one_that_is_silent_has_nothing() {
        assert!(standing(1, 0).has(1) && !standing(1, 1).has(1) && !standing(0, 0).has(1));
        assert!(standing(1, 0).connected(2) && !standing(1, 0).connected(3));
        let silent = Standing { server: "pvs01".to_owned(), says: None };
        assert!(!silent.has(0) && !silent.connected(0));
        assert!(draw(&[silent])[0].contains("does not answer"));
    }
}
