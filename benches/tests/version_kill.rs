//! The short form of `cargo xtask show version-kill`.

use headwater_benches::real_server::beside_this_program;
use headwater_benches::version_kill::{Options, run};
use std::time::Duration;

#[test]
fn ten_kills_lose_no_acknowledged_flush() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        program: beside_this_program().unwrap(),
        directory: directory.path().join("server"),
        kills: 10,
        size_mib: 16,
        seed: 20_261_122,
        longest: Duration::from_secs(3),
    };
    let report = run(&options, |_, _| {}).unwrap();
    assert!(report.tally.flushes > 0, "the loop did nothing: {report:?}");
}
