//! What a machine's serial console says: bytes in, lines and events out.
//!
//! Consoles are written by firmware, loader, kernel and init in turn, so escape sequences,
//! backspaces and half lines are normal. Nothing a guest prints can make this grow: a line is cut
//! at [`MAX_LINE`] and the newest [`KEPT_LINES`] are kept. Times are added by the caller.

use std::collections::VecDeque;

/// The longest line kept, in bytes: systemd's longest status lines are about 200.
const MAX_LINE: usize = 1024;
/// How many lines a failure can show: a kernel panic with its trace is about 40.
const KEPT_LINES: usize = 60;
/// What the lab image's service prints first: `HEADWATER-MARKER host=... boot=clean|dirty ...`.
const MARKER: &str = "HEADWATER-MARKER ";
/// What it prints once its write is on the disk.
const WROTE: &str = "HEADWATER-WROTE";

/// Something on the console that the lab acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SerialEvent {
    /// The kernel runs.
    Kernel,
    /// The booted root file system said who it is.
    Marker(Marker),
    /// The booted root file system wrote to its disk and synced.
    Wrote,
    /// Somebody could log in.
    Login,
    /// The machine will not get any further by itself.
    Stuck(String),
}

/// What only the booted root file system can say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marker {
    /// The host name.
    pub(super) host: String,
    /// What the previous boot's write has become.
    pub(super) disk: DiskState,
    /// The device of the root file system.
    pub(super) root: String,
}

/// Whether the disk shows what an earlier boot wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DiskState {
    /// Nothing of it.
    Clean,
    /// It is still there, or the marker does not say that it is not.
    #[default]
    Dirty,
}

/// Turns console bytes into events and remembers the last lines.
#[derive(Debug, Default)]
pub(super) struct Console {
    line: String,
    escape: Escape,
    utf8: Vec<u8>,
    recent: VecDeque<String>,
    prompted: bool,
}

/// Where in an escape sequence the stream is (ECMA-48, section 5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Control,
}

impl Console {
    /// Takes in the next bytes and answers what they mean, in order.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<SerialEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            if let Some(line) = self.byte(byte) {
                events.extend(event_of(&line));
                self.keep(line);
            }
        }
        if !self.prompted && is_prompt(&self.line) {
            self.prompted = true;
            events.push(SerialEvent::Login);
        }
        events
    }

    /// The newest lines, oldest first, with the unfinished one last.
    pub(super) fn recent(&self) -> Vec<String> {
        let unfinished = Some(self.line.clone()).filter(|line| !line.trim().is_empty());
        self.recent.iter().cloned().chain(unfinished).collect()
    }

    fn keep(&mut self, line: String) {
        if line.trim().is_empty() {
            return;
        }
        if self.recent.len() == KEPT_LINES {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    fn byte(&mut self, byte: u8) -> Option<String> {
        match (self.escape, byte) {
            (Escape::None, 0x1b) => self.escape = Escape::Begun,
            (Escape::None, b'\n') => return Some(self.finish()),
            (Escape::None, 0x08) => drop(self.line.pop()),
            (Escape::None, b'\t') => self.put(' '),
            (Escape::None, 0x20..=0x7e) => self.put(char::from(byte)),
            (Escape::None, 0x80..) => self.beyond_ascii(byte),
            (Escape::None, _) => {}
            (Escape::Begun, b'[') => self.escape = Escape::Control,
            (Escape::Begun, _) => self.escape = Escape::None,
            (Escape::Control, 0x40..=0x7e) => self.escape = Escape::None,
            (Escape::Control, _) => {}
        }
        None
    }

    fn finish(&mut self) -> String {
        self.prompted = false;
        self.utf8.clear();
        std::mem::take(&mut self.line)
    }

    fn put(&mut self, c: char) {
        if self.line.len() < MAX_LINE {
            self.line.push(c);
        }
    }

    /// systemd writes ellipses and quotes; anything that is no UTF-8 within four bytes is dropped.
    fn beyond_ascii(&mut self, byte: u8) {
        self.utf8.push(byte);
        let read = std::str::from_utf8(&self.utf8).ok().and_then(|text| text.chars().next());
        if let Some(c) = read {
            self.put(c);
        }
        if read.is_some() || self.utf8.len() == 4 {
            self.utf8.clear();
        }
    }
}

/// A getty's prompt is an unfinished line of two words: `lab-001 login:`.
fn is_prompt(line: &str) -> bool {
    let mut words = line.split_whitespace();
    matches!((words.next(), words.next(), words.next()), (Some(_), Some("login:"), None))
}

fn event_of(line: &str) -> Option<SerialEvent> {
    if let Some((_, fields)) = line.split_once(MARKER) {
        return Some(SerialEvent::Marker(parse_marker(fields)));
    }
    if line.contains(WROTE) {
        return Some(SerialEvent::Wrote);
    }
    if line.contains("Linux version ") {
        return Some(SerialEvent::Kernel);
    }
    STUCK.iter().any(|text| line.contains(text)).then(|| SerialEvent::Stuck(line.trim().to_owned()))
}

/// Lines after which nobody comes back: the firmware has nothing to boot, the kernel or the
/// initrd gave up.
const STUCK: [&str; 5] = [
    "No bootable device",
    "Kernel panic - not syncing",
    "Gave up waiting for root",
    "You are in emergency mode",
    "Entering emergency mode",
];

fn parse_marker(fields: &str) -> Marker {
    let mut marker = Marker::default();
    for (key, value) in fields.split_whitespace().filter_map(|field| field.split_once('=')) {
        match key {
            "host" => value.clone_into(&mut marker.host),
            "boot" if value == "clean" => marker.disk = DiskState::Clean,
            "root" => value.clone_into(&mut marker.root),
            _ => {}
        }
    }
    marker
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<SerialEvent> {
        Console::default().push(text.as_bytes())
    }

    #[test]
    fn a_marker_is_read_field_by_field() {
        let line = "[   12.3] HEADWATER-MARKER host=lab-001 boot=clean kernel=6.1.0 root=/dev/nbd0p1\r\n";
        let marker =
            Marker { host: "lab-001".to_owned(), disk: DiskState::Clean, root: "/dev/nbd0p1".to_owned() };
        assert_eq!(events(line), [SerialEvent::Marker(marker)]);
    }

    #[test]
    fn a_marker_that_does_not_say_clean_counts_as_dirty() {
        for line in ["HEADWATER-MARKER boot=dirty\n", "HEADWATER-MARKER boot=\n", "HEADWATER-MARKER x\n"] {
            assert!(
                matches!(&events(line)[..], [SerialEvent::Marker(m)] if m.disk == DiskState::Dirty),
                "{line}"
            );
        }
    }

    #[test]
    fn a_login_prompt_is_seen_though_no_line_end_follows() {
        assert_eq!(events("Debian GNU/Linux 12 lab-001 ttyS0\r\n\r\nlab-001 login: "), [SerialEvent::Login]);
        assert_eq!(events("Last login: yesterday"), []);
        assert_eq!(events("login:"), []);
    }

    #[test]
    fn a_prompt_that_arrives_in_pieces_counts_once() {
        let mut console = Console::default();
        assert_eq!(console.push(b"lab-001 log"), []);
        assert_eq!(console.push(b"in:"), [SerialEvent::Login]);
        assert_eq!(console.push(b" "), []);
        assert_eq!(console.push(b"\nlab-001 login: "), [SerialEvent::Login]);
    }

    #[test]
    fn colours_and_backspaces_are_not_text() {
        let mut console = Console::default();
        console.push(b"\x1b[0;1miPXE\x1b[0m ok!\x08 \xe2\x80\xa6 \xff\r\n");
        assert_eq!(console.recent(), ["iPXE ok \u{2026} "]);
    }

    #[test]
    fn the_end_of_the_road_is_seen() {
        assert_eq!(
            events("[  1.0] Kernel panic - not syncing: VFS\n"),
            [SerialEvent::Stuck("[  1.0] Kernel panic - not syncing: VFS".to_owned())]
        );
        assert_eq!(events("[    0.000000] Linux version 6.1.0\n"), [SerialEvent::Kernel]);
    }

    #[test]
    fn a_flood_is_cut() {
        let mut console = Console::default();
        console.push(&vec![b'x'; 10 * MAX_LINE]);
        for n in 0..10 * KEPT_LINES {
            console.push(format!("\nline {n}").as_bytes());
        }
        assert!(console.recent().len() <= KEPT_LINES + 1);
        assert!(console.recent().iter().all(|line| line.len() <= MAX_LINE + 4));
        assert_eq!(console.recent().last().map(String::as_str), Some("line 599"));
    }
}
