//! Prometheus' text format: HELP, TYPE, then a line for each sample.

use std::fmt::Write;

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Grows only, but for a restart.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A text that figures are added to.
#[derive(Debug, Default)]
pub(super) struct Text(String);

/// The labels of a sample.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// Begins a figure.
    pub(super) fn figure(&mut self, name: &str, kind: Kind, help: &str) -> Figure<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let name = format!("headwater_{name}");
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string");
        Figure { text: &mut self.0, name }
    }

    /// A figure of one sample without labels.
    pub(super) fn one(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.figure(name, kind, help).sample(&[], value);
    }

    /// The whole.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A figure that samples are added to.
pub(super) struct Figure<'a> {
    text: &'a mut String,
    name: String,
}

impl Figure<'_> {
    /// Adds a sample.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: u64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.text, "{}{labels} {value}", self.name).expect("a string");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_below_their_figure_and_labels_are_escaped() {
        let mut text = Text::default();
        text.one("jobs_running", Kind::Gauge, "Jobs at work.", 3);
        text.figure("x_total", Kind::Counter, "X.").sample(&[("store", "a\"b\\c\nd")], 7);
        assert_eq!(
            text.finish(),
            "# HELP headwater_jobs_running Jobs at work.\n# TYPE headwater_jobs_running gauge\n\
             headwater_jobs_running 3\n# HELP headwater_x_total X.\n# TYPE headwater_x_total counter\n\
             headwater_x_total{store=\"a\\\"b\\\\c\\nd\"} 7\n"
        );
    }
}
