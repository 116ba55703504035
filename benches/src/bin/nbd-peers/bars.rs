//! What is to be reached against the best peer of the same run, and whether it was.

/// One bar and what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Whether the bar was met.
    pub(crate) met: bool,
    /// The bar and the figure.
    pub(crate) text: String,
    /// A part of the last line, for the bars on speed.
    pub(crate) headline: Option<String>,
}

/// The bars of one load, as ratios of us to the best peer; none = no bar.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bars {
    /// Requests per second, at least.
    pub(crate) speed: Option<f64>,
    /// CPU per request, at most.
    pub(crate) cpu: Option<f64>,
    /// The 99th percentile of the latencies, at most.
    pub(crate) p99: Option<f64>,
}

/// The medians of one server under one load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Requests per second.
    pub(crate) rate: f64,
    /// CPU seconds for 100,000 requests.
    pub(crate) cpu: f64,
    /// Half of the requests took at most this many microseconds.
    pub(crate) p50_us: f64,
    /// 99 of 100 requests took at most this many microseconds.
    pub(crate) p99_us: f64,
    /// MB (10^6) of data a second.
    pub(crate) mb_per_s: f64,
}

/// Compares us with the best peer: the one with the most requests per second.
pub(crate) fn judge(name: &str, bars: Bars, ours: Figures, best: Figures) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut push = |what: &str, met: bool, ratio: f64, sign: &str, bar: f64, headline: bool| {
        verdicts.push(Verdict {
            met,
            text: format!("{name}: {what} {ratio:.2}x the best peer's, the bar is {sign} {bar:.2}x"),
            headline: headline.then(|| format!("{name} {ratio:.1}x")),
        });
    };
    if let Some(bar) = bars.speed {
        let ratio = ours.rate / best.rate;
        push("requests per second", ratio >= bar, ratio, ">=", bar, true);
    }
    if let Some(bar) = bars.cpu {
        let ratio = ours.cpu / best.cpu;
        push("CPU per request", ratio <= bar, ratio, "<=", bar, false);
    }
    if let Some(bar) = bars.p99 {
        let ratio = ours.p99_us / best.p99_us;
        push("p99", ratio <= bar, ratio, "<=", bar, false);
    }
    verdicts
}
