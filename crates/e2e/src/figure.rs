//! A test's figure: what `cargo xtask show` prints last, and whether the long form is wanted.

use std::io::Write;

/// Set by `cargo xtask show` to the file that figures are written to; the long form is run then.
const FIGURE_FILE: &str = "HEADWATER_FIGURE_FILE";

/// Whether the claim is shown: the form that takes minutes, not the tests' short one.
pub fn is_shown() -> bool {
    std::env::var_os(FIGURE_FILE).is_some()
}

/// Prints a figure, and keeps it for `cargo xtask show`.
pub fn print(figure: &str) {
    println!("{figure}");
    if let Some(path) = std::env::var_os(FIGURE_FILE) {
        let file = std::fs::File::options().create(true).append(true).open(path);
        let written = file.and_then(|mut file| writeln!(file, "{figure}"));
        written.expect("the file that xtask has made takes a line");
    }
}
