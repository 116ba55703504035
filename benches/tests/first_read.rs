//! The short form of `cargo xtask show lazy-first-read`: the bytes, not the time.

use headwater_benches::first_read::{Size, run};
use headwater_benches::real_server::beside_this_program;

#[test]
fn a_version_is_read_on_another_server_before_it_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let sizes = [Size { disk_mib: 256, data_mib: 64, changed_mib: 16 }];
    let shown = run(&beside_this_program().unwrap(), &directory.path().join("farm"), &sizes).unwrap();
    assert_eq!(shown.len(), 1);
}
