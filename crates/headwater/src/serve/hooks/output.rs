//! The last lines of what a program says, without trusting it to be short or text.

use std::collections::VecDeque;
use std::fmt;

/// Lines that are kept.
const MAX_LINES: usize = 20;
/// Bytes of a line that are kept.
const MAX_LINE_BYTES: usize = 400;

/// The last lines of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    current: Vec<u8>,
}

impl Tail {
    /// Takes in more of it.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ if self.current.len() < MAX_LINE_BYTES => self.current.push(*byte),
                _ => {}
            }
        }
    }

    /// All of it, also a last line without an end.
    pub(super) fn finished(mut self) -> Self {
        self.end_line();
        self
    }

    /// The lines, oldest first.
    pub(super) fn lines(self) -> Vec<String> {
        self.lines.into()
    }

    fn end_line(&mut self) {
        if self.current.is_empty() {
            return;
        }
        // What could move a terminal's cursor stays out of logs and terminals.
        let text = String::from_utf8_lossy(&self.current).replace(char::is_control, " ");
        self.current.clear();
        if self.lines.len() >= MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "  | {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<String> {
        let mut tail = Tail::default();
        text.chunks(7).for_each(|chunk| tail.add(chunk));
        tail.finished().lines()
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let found = lines(text.as_bytes());
        assert_eq!(found.len(), MAX_LINES);
        assert_eq!(found.last().map(String::as_str), Some("line 999"));
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let found = lines(&vec![b'x'; 1 << 20]);
        assert_eq!(found, [("x".repeat(MAX_LINE_BYTES))]);
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(lines(b"a\x1b[2Jb\r\n\xff"), ["a [2Jb ", "\u{fffd}"]);
    }
}
