//! The bars of `cargo xtask show replication-peers`, and which were met.

use super::Run;
use crate::child::median;
use comfy_table::Table;
use std::collections::BTreeMap;
use std::time::Duration;

/// Ours, fast links.
pub const OURS: &str = "headwater";
/// The peer that the bars are about.
pub const RSYNC: &str = "rsync --inplace";
/// The same, compressed.
pub const RSYNC_ZSTD: &str = "rsync --inplace, zstd";
/// What any tool could do at best that knew the difference.
pub const HTTP: &str = "bare delta by HTTP";
/// Another peer.
pub const SYNCTHING: &str = "syncthing";
/// Another peer.
pub const CASYNC: &str = "casync";
/// Ours, slow links.
pub const OURS_SLOW: &str = "headwater, slow";
/// rsync with zstd, slow links.
pub const RSYNC_SLOW: &str = "rsync --inplace, zstd, slow";
/// The bare delta, slow links.
pub const HTTP_SLOW: &str = "bare delta by HTTP, slow";
/// Ours to three receivers.
pub const OURS_TO_3: &str = "headwater to 3";
/// The same, slow links.
pub const OURS_TO_3_SLOW: &str = "headwater to 3, slow";

/// The runs of every contender, in the order in which they came first.
#[derive(Debug, Default)]
pub struct Results(Vec<(&'static str, Vec<Run>)>);

/// One bar: what was measured, in parts of what is allowed.
#[derive(Debug)]
struct Bar {
    about: &'static str,
    /// Met up to 1.
    part: f64,
}

impl Results {
    /// Takes a run in.
    pub fn add(&mut self, name: &'static str, run: Run) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, runs)) => runs.push(run),
            None => self.0.push((name, vec![run])),
        }
    }

    /// The middle of each cost over a contender's runs; for what can be read, the worst.
    fn medians(&self) -> BTreeMap<&'static str, Run> {
        let middle = |runs: &[Run]| Run {
            wall: median(&runs.iter().map(|run| run.wall).collect::<Vec<_>>()),
            readable: runs.iter().map(|run| run.readable).max().unwrap_or_default(),
            cpu: median(&runs.iter().map(|run| run.cpu).collect::<Vec<_>>()),
            wire: median(&runs.iter().map(|run| run.wire).collect::<Vec<_>>()),
            upload: median(&runs.iter().map(|run| run.upload).collect::<Vec<_>>()),
        };
        self.0.iter().map(|(name, runs)| (*name, middle(runs))).collect()
    }

    /// All of it, with the ratios to ours over the same kind of link.
    pub fn table(&self) -> Table {
        let medians = self.medians();
        let mut table = Table::new();
        table.set_header([
            "",
            "runs",
            "seconds",
            "of ours",
            "readable after",
            "CPU s, all ends",
            "of ours",
            "MiB sent",
            "MiB uploaded",
        ]);
        for (name, runs) in &self.0 {
            let run = medians[name];
            let ours = if name.ends_with("slow") { OURS_SLOW } else { OURS };
            let ratio = |of: fn(&Run) -> Duration| {
                let ours = medians.get(ours).map(of).filter(|ours| !ours.is_zero());
                ours.map_or_else(String::new, |ours| {
                    format!("{:.2}", of(&run).as_secs_f64() / ours.as_secs_f64())
                })
            };
            table.add_row([
                (*name).to_owned(),
                runs.len().to_string(),
                seconds(run.wall),
                ratio(|run| run.wall),
                seconds(run.readable),
                seconds(run.cpu),
                ratio(|run| run.cpu),
                mib(run.wire),
                mib(run.upload),
            ]);
        }
        table
    }

    /// The figure, and whether all bars are met; `new_bytes` are those of the new chunks.
    pub fn figure(&self, new_bytes: u64) -> (String, bool) {
        let medians = self.medians();
        let bars = bars(&medians, new_bytes as f64);
        let met = bars.iter().filter(|bar| bar.part <= 1.0).count();
        let missed: Vec<String> = bars
            .iter()
            .filter(|bar| bar.part > 1.0)
            .map(|bar| format!("{} ({:.2}x of it)", bar.about, bar.part))
            .collect();
        let run = |name| medians.get(name).copied().unwrap_or_default();
        let (ours, slow) = (run(OURS), run(OURS_SLOW));
        let mut text = format!(
            "replication-peers: {met} of {ALL} bars met; {new} MiB new: {wall} s (rsync {rsync}, bare delta {http}), \
             CPU {cpu} s (rsync {rsync_cpu}), {sent} MiB sent, readable after {readable} s; \
             slow: {slow_wall} s (rsync with zstd {rsync_slow}), {slow_sent} MiB (rsync {rsync_sent}); \
             to 3: {to_3} MiB uploaded, slow {to_3_slow}",
            new = mib(new_bytes),
            wall = seconds(ours.wall),
            rsync = seconds(run(RSYNC).wall),
            http = seconds(run(HTTP).wall),
            cpu = seconds(ours.cpu),
            rsync_cpu = seconds(run(RSYNC).cpu),
            sent = mib(ours.wire),
            readable = seconds(ours.readable),
            slow_wall = seconds(slow.wall),
            rsync_slow = seconds(run(RSYNC_SLOW).wall),
            slow_sent = mib(slow.wire),
            rsync_sent = mib(run(RSYNC_SLOW).wire),
            to_3 = mib(run(OURS_TO_3).upload),
            to_3_slow = mib(run(OURS_TO_3_SLOW).upload),
        );
        if !missed.is_empty() {
            text += &format!("; missed: {}", missed.join(", "));
        }
        (text, met == ALL)
    }
}

/// How many bars there are.
const ALL: usize = 11;

/// The bars whose contenders have run.
fn bars(medians: &BTreeMap<&'static str, Run>, new_bytes: f64) -> Vec<Bar> {
    let time = |run: &Run| run.wall.as_secs_f64();
    let cpu = |run: &Run| run.cpu.as_secs_f64();
    let wire = |run: &Run| run.wire as f64;
    let readable = |run: &Run| run.readable.as_secs_f64();
    let upload = |run: &Run| run.upload as f64;
    let against = |about, ours, theirs, allowed: f64, of: &dyn Fn(&Run) -> f64| {
        Some(Bar { about, part: of(medians.get(ours)?) / (of(medians.get(theirs)?) * allowed) })
    };
    let below = |about, ours, allowed: f64, of: &dyn Fn(&Run) -> f64| {
        Some(Bar { about, part: of(medians.get(ours)?) / allowed })
    };
    [
        below("sent at most 1.05x the new chunks", OURS, new_bytes * 1.05, &wire),
        against("at most an eighth of rsync's time", OURS, RSYNC, 1.0 / 8.0, &time),
        against("at most 2x the time of the bare delta", OURS, HTTP, 2.0, &time),
        against("at most a quarter of rsync's CPU time", OURS, RSYNC, 1.0 / 4.0, &cpu),
        below("readable within 1 s", OURS, 1.0, &readable),
        against("slow: sends at most what rsync with zstd does", OURS_SLOW, RSYNC_SLOW, 1.0, &wire),
        against("slow: takes no longer than rsync with zstd", OURS_SLOW, RSYNC_SLOW, 1.0, &time),
        against("slow: at most 2x the time of the bare delta", OURS_SLOW, HTTP_SLOW, 2.0, &time),
        below("slow: readable within 1 s", OURS_SLOW, 1.0, &readable),
        below("to 3: uploads at most 1.3x the new chunks", OURS_TO_3, new_bytes * 1.3, &upload),
        against("to 3, slow: uploads at most 1.3x of that to one", OURS_TO_3_SLOW, OURS_SLOW, 1.3, &upload),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(wall_ms: u64, cpu_ms: u64, wire: u64) -> Run {
        let ms = Duration::from_millis;
        Run { wall: ms(wall_ms), readable: ms(200), cpu: ms(cpu_ms), wire, upload: wire }
    }

    #[test]
    fn what_has_not_run_counts_as_missed() {
        let mut results = Results::default();
        results.add(OURS, run(700, 900, 104));
        results.add(RSYNC, run(9000, 9000, 100));
        results.add(HTTP, run(300, 300, 100));
        let (text, all) = results.figure(100);
        assert!(text.starts_with("replication-peers: 4 of 11 bars met"), "{text}");
        assert!(text.ends_with("missed: at most 2x the time of the bare delta (1.17x of it)"), "{text}");
        assert!(!all);
    }
}
