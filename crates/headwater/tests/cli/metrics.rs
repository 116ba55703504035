//! `/metrics`: parsed as Prometheus does, and compared with what the documentation lists.

use super::support::Home;
use std::collections::{BTreeMap, BTreeSet};

/// The documentation's table of figures.
const DOCUMENTED: &str = include_str!("../../../../docs/operations/metrics.md");

/// A sample's name with its labels, and its value. Fails on what is not the format (version 0.0.4).
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
    let is_name = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.starts_with("headwater_") && name.chars().all(allowed)
    };
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (word, name, rest) = (words.next(), words.next().unwrap(), words.next().unwrap());
            assert!(is_name(name) && !rest.is_empty(), "{line}");
            match word {
                Some("HELP") => (),
                Some("TYPE") => {
                    assert!(["counter", "gauge"].contains(&rest), "{line}");
                    assert_eq!(
                        rest == "counter",
                        name.ends_with("_total") || name.ends_with("revision"),
                        "{line}"
                    );
                    assert!(types.insert(name.to_owned(), rest).is_none(), "{line}");
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let name = sample.split('{').next().unwrap();
        assert!(types.contains_key(name), "{line} stands before its type");
        if let Some(labels) = sample.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let inside = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}')).unwrap();
            for label in inside.split(',') {
                let (label, value) = label.split_once('=').unwrap();
                assert!(!label.is_empty() && value.starts_with('"') && value.ends_with('"'), "{line}");
            }
        }
        assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{line} stands twice");
    }
    samples
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn the_figures_are_those_that_are_documented_and_say_what_is() {
    let home = Home::new();
    let config = std::fs::read_to_string(home.path("test.toml")).unwrap();
    std::fs::write(home.path("test.toml"), format!("{config}\n[access]\nmetrics_from = ['127.0.0.0/8']\n"))
        .unwrap();
    let server = home.start();
    home.image("a.raw", 1 << 20, 2 << 20);
    home.run(&["vdisk", "import", "office", "a.raw"]);
    home.run(&["device", "add", "52:54:00:12:34:56"]);
    home.run(&["version", "create", "office"]);
    home.run(&["session", "create", "office", "--version", "2", "--write"]);
    let answer = server.get("/metrics");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("text/plain; version=0.0.4"), "{answer}");
    let samples = parsed(body(&answer));
    assert_eq!(samples["headwater_devices"], 1.0);
    assert_eq!(samples["headwater_versions{vdisk=\"office\",access=\"production\"}"], 1.0);
    assert_eq!(samples["headwater_draft_alone_bytes{vdisk=\"office\",version=\"2\"}"], 0.0);
    assert_eq!(samples["headwater_jobs{state=\"done\"}"], 1.0);
    assert!(samples["headwater_store_bytes{store=\"default\",what=\"used\"}"] >= 1_048_576.0);
    let names: BTreeSet<&str> = samples.keys().map(|sample| sample.split('{').next().unwrap()).collect();
    let listed: BTreeSet<&str> =
        DOCUMENTED.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next()).collect();
    assert_eq!(names, listed, "docs/operations/metrics.md lists each figure");
}

#[test]
fn metrics_need_a_token_where_no_network_is_open() {
    let home = Home::new();
    let server = home.start();
    assert!(server.get("/metrics").starts_with("HTTP/1.1 401"));
    assert_eq!(server.status_of("GET", "/metrics", Some(&home.admin_token())), 200);
}
