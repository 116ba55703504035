//! How results look: a table for people, JSON for programs.

use comfy_table::{ContentArrangement, Table, presets};
use model::Name;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use time::OffsetDateTime;
use time::macros::format_description;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Columns for people
    Table,
    /// The API's views, for programs
    Json,
}

impl Output {
    /// Prints a list: one row for each element, or the list as JSON.
    pub(crate) fn list<T: Serialize>(
        self,
        items: &[T],
        heads: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> anyhow::Result<()> {
        if self == Self::Json {
            return print_json(&items);
        }
        print(&table(items, heads, row))
    }

    /// Prints one thing: a line for each field, or the thing as JSON.
    pub(crate) fn one<T: Serialize>(
        self,
        item: &T,
        fields: impl FnOnce(&T) -> Vec<(&'static str, String)>,
    ) -> anyhow::Result<()> {
        if self == Self::Json {
            return print_json(item);
        }
        let fields = fields(item);
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name:width$}  {value}").trim_end().to_owned())
            .collect();
        print(&lines.join("\n"))
    }

    /// Prints what was done; nothing for programs, who have the exit code.
    pub(crate) fn done(self, message: &str) -> anyhow::Result<()> {
        if self == Self::Json { Ok(()) } else { print(message) }
    }
}

/// A table for people: one row for each element.
pub(crate) fn table<T>(items: &[T], heads: &[&str], row: impl Fn(&T) -> Vec<String>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(heads.iter().map(|head| head.to_uppercase()));
    table.add_rows(items.iter().map(row));
    table.trim_fmt()
}

/// One JSON document, for people with `jq` and without.
pub(crate) fn print_json(value: &(impl Serialize + ?Sized)) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// One line; that nobody reads it any more (`| head`) is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A time in UTC, to the second.
pub(crate) fn time_of(unix_ms: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let time = OffsetDateTime::from_unix_timestamp((unix_ms / 1000).cast_signed());
    time.ok().and_then(|time| time.format(&format).ok()).unwrap_or_else(|| unix_ms.to_string())
}

/// Bytes with a binary unit and at most one decimal.
pub(crate) fn bytes(amount: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (amount as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = usize::from(value.fract() > 0.05 && unit > 0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A value that may be missing, as a dash.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Names in their order, or a dash.
pub(crate) fn names(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    or_dash((!names.is_empty()).then(|| names.join(", ")))
}

/// Pinned versions by vDisk, or a dash.
pub(crate) fn pins(pins: &BTreeMap<Name, u32>) -> String {
    let pins: Vec<String> = pins.iter().map(|(vdisk, version)| format!("{vdisk} {version}")).collect();
    or_dash((!pins.is_empty()).then(|| pins.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_times_are_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(4 << 30), "4 GiB");
        assert_eq!(time_of(1_763_836_262_123), "2025-11-22 18:31:02Z");
    }
}
