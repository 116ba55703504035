//! Where the lab writes: a table that is redrawn in place on a terminal, plain lines elsewhere.
//!
//! Standard output only. What the table shows is decided in `lab.rs` and drawn by `table.rs`.

use super::table::{Canvas, Glyphs};
use std::io::{IsTerminal, Write};

/// The width assumed where there is no terminal.
const PLAIN_WIDTH: usize = 100;
/// Erases from the cursor to the end of the line, then of the screen (ECMA-48: EL, ED).
const ERASE_LINE: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";

/// The lab's standard output.
#[derive(Debug)]
pub(super) struct Screen {
    live: bool,
    drawn: usize,
}

impl Screen {
    /// Standard output as it is.
    pub(super) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { live: std::io::stdout().is_terminal() && !dumb, drawn: 0 }
    }

    /// Whether tables are redrawn in place.
    pub(super) fn live(&self) -> bool {
        self.live
    }

    /// The space there is now; terminals change their size.
    pub(super) fn canvas(&self) -> Canvas {
        let terminal = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        let width = terminal.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Canvas { width: width.unwrap_or(PLAIN_WIDTH), glyphs: glyphs() }
    }

    /// Writes a line that stays, above the table.
    pub(super) fn say(&mut self, text: &str) {
        let up = self.up();
        self.drawn = 0;
        write(&format!("{up}{text}\n"));
    }

    /// Draws the table over the last one; does nothing where nothing can be redrawn.
    pub(super) fn draw(&mut self, lines: &[String]) {
        if self.live {
            let top = if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\r", self.drawn) };
            let body: String = lines.iter().map(|line| format!("{line}{ERASE_LINE}\n")).collect();
            write(&format!("{top}{body}{ERASE_BELOW}"));
            self.drawn = lines.len();
        }
    }

    /// Draws the table a last time and leaves it standing.
    pub(super) fn settle(&mut self, lines: &[String]) {
        let up = self.up();
        write(&format!("{up}{}\n", lines.join("\n")));
        self.drawn = 0;
    }

    /// Moves the cursor to where the table began and erases it.
    fn up(&self) -> String {
        match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r{ERASE_BELOW}"),
        }
    }
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that went away (`| head`) is no reason to leave machines behind.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Blocks where the locale says UTF-8, the first of these variables that is set deciding (POSIX).
fn glyphs() -> Glyphs {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let locale = set.unwrap_or_default().to_ascii_lowercase();
    match locale.contains("utf-8") || locale.contains("utf8") {
        true => Glyphs::BLOCKS,
        false => Glyphs::ASCII,
    }
}
