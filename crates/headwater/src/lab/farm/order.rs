//! What the user may type while the farm runs.

use tokio::sync::mpsc::{Receiver, channel};

/// Lines on their way; nobody types faster than the lab reads.
const QUEUE: usize = 8;
/// The longest line that is looked at.
const MAX_LINE: usize = 200;

/// An order; servers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// End a server as a power cut does.
    Kill(usize),
    /// Start it again.
    Start(usize),
    /// Show how replication stands.
    Show,
}

/// What a line means for a farm of `servers`; none where it means nothing.
pub(super) fn parse(line: &str, servers: usize) -> Option<Order> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let server = |word: &str| {
        let number: usize = word.trim_start_matches("pvs").parse().ok()?;
        (1..=servers).contains(&number).then(|| number - 1)
    };
    match words[..] {
        ["kill", word] => server(word).map(Order::Kill),
        ["start", word] => server(word).map(Order::Start),
        ["status"] => Some(Order::Show),
        _ => None,
    }
}

/// The lines of standard input. Read on a thread of its own, which ends with the process.
pub(super) fn lines() -> Receiver<String> {
    let (sender, lines) = channel(QUEUE);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let line = line.chars().take(MAX_LINE).collect();
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_number_or_name() {
        assert_eq!(parse("kill 2", 3), Some(Order::Kill(1)));
        assert_eq!(parse(" start  pvs03 ", 3), Some(Order::Start(2)));
        assert_eq!(parse("status", 3), Some(Order::Show));
        for line in ["", "kill", "kill 0", "kill 4", "kill x", "start 1 2", "stop 1"] {
            assert_eq!(parse(line, 3), None, "{line}");
        }
    }
}
