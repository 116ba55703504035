//! Draws the boot timelines of all machines side by side: one row a step, one column a machine.
//!
//! Pure: timelines and a width in, lines out. All columns share one scale, so that bars can be
//! compared. A bar begins where the step before ended; what a machine is busy with grows while one
//! looks. Where the lines go is `screen.rs`'s business.

use super::timeline::{Step, Timeline};
use std::time::Duration;

/// Columns of the step's name: the longest is `script fetched`.
const LABEL_WIDTH: usize = 16;
/// Columns of a time, such as `  31.4 s `.
const TIME_WIDTH: usize = 9;
/// The narrowest bar that still shows anything, by eye.
const MIN_BAR: usize = 12;
/// The widest bar; beyond it the eye loses the row.
const MAX_BAR: usize = 48;
/// Space between two machines.
const GAP: usize = 2;
/// The shortest scale: a boot that has just begun does not fill the screen at once.
const MIN_SCALE: Duration = Duration::from_secs(20);

/// One machine.
#[derive(Clone, Debug)]
pub(super) struct Column<'a> {
    /// What stands above it.
    pub(super) title: String,
    /// Its boot.
    pub(super) timeline: &'a Timeline,
    /// How long it has been on; none once nothing grows any more.
    pub(super) busy: Option<Duration>,
    /// What stands beneath it; may be empty.
    pub(super) note: String,
}

/// What bars are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glyphs {
    done: char,
    busy: char,
}

impl Glyphs {
    /// For terminals that know Unicode.
    pub(super) const BLOCKS: Self = Self { done: '\u{2588}', busy: '\u{2591}' };
    /// For those that do not, and for logs.
    pub(super) const ASCII: Self = Self { done: '#', busy: '.' };
}

/// Where a table is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canvas {
    /// The terminal's width in characters.
    pub(super) width: usize,
    /// What bars are made of.
    pub(super) glyphs: Glyphs,
}

/// Draws the columns, beneath each other where they do not fit beside each other.
pub(super) fn draw(columns: &[Column<'_>], canvas: Canvas) -> Vec<String> {
    let per_row = columns_that_fit(canvas.width).min(columns.len()).max(1);
    let bar = bar_width(canvas.width, per_row);
    let scale = scale(columns);
    let pen = Pen { bar, scale, glyphs: canvas.glyphs };
    columns.chunks(per_row).flat_map(|row| draw_row(row, pen)).collect()
}

/// How wide a bar is, how much time it stands for, and what it is made of.
#[derive(Clone, Copy)]
struct Pen {
    bar: usize,
    scale: Duration,
    glyphs: Glyphs,
}

fn columns_that_fit(width: usize) -> usize {
    width.saturating_sub(LABEL_WIDTH) / (TIME_WIDTH + MIN_BAR + GAP)
}

fn bar_width(width: usize, per_row: usize) -> usize {
    let each = width.saturating_sub(LABEL_WIDTH) / per_row;
    each.saturating_sub(TIME_WIDTH + GAP).clamp(MIN_BAR, MAX_BAR)
}

fn scale(columns: &[Column<'_>]) -> Duration {
    let ends = columns.iter().map(|column| {
        let reached = column.timeline.at(Step::Login).unwrap_or_else(|| column.timeline.before(Step::Login));
        reached.max(column.busy.unwrap_or_default())
    });
    ends.max().unwrap_or_default().max(MIN_SCALE)
}

fn draw_row(columns: &[Column<'_>], pen: Pen) -> Vec<String> {
    let line = |label: &str, cell: &dyn Fn(&Column<'_>) -> String| {
        let width = TIME_WIDTH + pen.bar + GAP;
        let cells: String = columns.iter().map(|column| fit(&cell(column), width)).collect();
        format!("{label:LABEL_WIDTH$}{cells}").trim_end().to_owned()
    };
    let mut lines = vec![line("", &|column| format!("  {}", column.title))];
    lines.extend(Step::ALL.map(|step| line(step.label(), &|column| cell(column, step, pen))));
    if columns.iter().any(|column| !column.note.is_empty()) {
        lines.push(line("", &|column| format!("  {}", column.note)));
    }
    lines
}

/// One step of one machine: when it was reached and the bar from the step before.
fn cell(column: &Column<'_>, step: Step, pen: Pen) -> String {
    let start = column.timeline.before(step);
    match (column.timeline.at(step), column.busy) {
        (Some(at), _) => format!("{:>6.1} s {}", at.as_secs_f64(), bar(start, at, pen, pen.glyphs.done)),
        (None, Some(now)) if column.timeline.next() == Some(step) => {
            format!("{:>8} {}", "...", bar(start, now, pen, pen.glyphs.busy))
        }
        (None, _) => String::new(),
    }
}

/// A bar from one time to another; a step that took no time is still one character.
fn bar(from: Duration, to: Duration, pen: Pen, glyph: char) -> String {
    let position = |time: Duration| {
        let share = time.as_secs_f64() / pen.scale.as_secs_f64();
        // A share of a terminal's width: small, positive and cut below.
        ((share * pen.bar as f64) as usize).min(pen.bar)
    };
    let start = position(from).min(pen.bar - 1);
    let len = position(to).saturating_sub(start).max(1);
    " ".repeat(start) + &glyph.to_string().repeat(len)
}

fn fit(text: &str, width: usize) -> String {
    let cut: String = text.chars().take(width - GAP).collect();
    format!("{cut:width$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn timeline(steps: &[(Step, u64)]) -> Timeline {
        let mut timeline = Timeline::new(SystemTime::UNIX_EPOCH);
        for (step, ms) in steps {
            timeline.note(*step, SystemTime::UNIX_EPOCH + Duration::from_millis(*ms));
        }
        timeline
    }

    fn column<'a>(title: &str, timeline: &'a Timeline, busy: Option<u64>, note: &str) -> Column<'a> {
        let busy = busy.map(Duration::from_secs);
        Column { title: title.to_owned(), timeline, busy, note: note.to_owned() }
    }

    fn whole() -> Timeline {
        timeline(&[
            (Step::Script, 5_100),
            (Step::KernelFile, 5_200),
            (Step::InitrdFile, 6_000),
            (Step::AgentStarted, 12_000),
            (Step::DiskAttached, 13_000),
            (Step::FirstRead, 13_100),
            (Step::Running, 18_000),
            (Step::Login, 40_000),
        ])
    }

    #[test]
    fn two_machines_stand_side_by_side_on_eighty_columns() {
        let (first, second) = (whole(), timeline(&[(Step::Script, 5_300), (Step::KernelFile, 10_000)]));
        let columns =
            [column("lab-001", &first, None, "read 98 MiB"), column("lab-002", &second, Some(30), "")];
        let lines = draw(&columns, Canvas { width: 80, glyphs: Glyphs::ASCII });
        let expected = "
                  lab-001                         lab-002
script fetched     5.1 s ##                        5.3 s ##
kernel             5.2 s   #                      10.0 s   ###
initrd             6.0 s   #                         ...      ..........
agent started     12.0 s    ###
disk attached     13.0 s       #
first read        13.1 s       #
running           18.0 s       ###
login prompt      40.0 s          ############
                  read 98 MiB";
        assert_eq!(format!("\n{}", lines.join("\n")), expected);
    }

    #[test]
    fn machines_that_do_not_fit_go_beneath() {
        let (first, second) = (whole(), whole());
        let columns = [column("lab-001", &first, None, ""), column("lab-002", &second, None, "")];
        let lines = draw(&columns, Canvas { width: 50, glyphs: Glyphs::BLOCKS });
        assert_eq!(lines.len(), 2 * (1 + Step::ALL.len()));
        assert!(lines.iter().all(|line| line.chars().count() <= 50), "{lines:#?}");
    }

    #[test]
    fn no_terminal_is_too_narrow_to_draw_on() {
        let only = whole();
        let lines = draw(&[column("lab-001", &only, None, "")], Canvas { width: 0, glyphs: Glyphs::ASCII });
        assert_eq!(lines.len(), 1 + Step::ALL.len());
    }
}
