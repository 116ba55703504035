//! What rots on one server comes again from another.

use super::farm::{home_of, join, wait_for_link};
use super::support::{Home, text, wait_for};
use farm_db::etcd_child::EtcdCluster;
use std::os::unix::fs::FileExt;

/// Flips a byte in each of these chunks of the only layer.
fn damage(home: &Home, chunks: &[u64]) {
    let layer = std::fs::read_dir(home.path("state/store/layers")).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::File::options().read(true).write(true).open(layer.join("data")).unwrap();
    for chunk in chunks {
        let (at, mut byte) = ((chunk << 16) + 4242, [0]);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn flipped_bytes_are_found_never_served_and_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdCluster::start(dir.path(), 1);
    let (one, one_address) = home_of("pvs01", &etcd);
    let first = one.start();
    one.run(&["farm", "init", "--address", &one_address]);
    let (two, two_address) = home_of("pvs02", &etcd);
    join(&one, &two, &two_address);
    let second = two.start();
    wait_for_link(&two);
    let image = one.image("in.raw", 8 << 20, 64 << 20);
    one.run(&["vdisk", "import", "office", "in.raw"]);
    wait_for("the copy", || two.json(&["replication", "status"])[0]["complete_versions"] == 1);

    // Without its peer it finds what is damaged, and gives it to nobody.
    assert_eq!(first.stop(), Some(0));
    damage(&two, &[3, 77]);
    two.run(&["store", "scrub", "--now"]);
    let quarantined = || two.json(&["store", "space"])[0]["quarantined_chunks"].as_u64();
    wait_for("the scrub", || quarantined() == Some(2));
    assert!(!two.refused(&["vdisk", "export", "office", "bad.raw"], 1).is_empty());

    let first = one.start();
    wait_for_link(&two);
    two.run(&["store", "scrub", "--now"]);
    wait_for("the repair", || quarantined() == Some(0));
    two.run(&["vdisk", "export", "office", "good.raw"]);
    assert!(std::fs::read(two.path("good.raw")).unwrap() == std::fs::read(text(&image)).unwrap());
    let repaired = || two.json(&["events", "--kind", "chunk-repaired"]).to_string();
    wait_for("the events", || repaired().matches("came from server pvs01").count() == 2);
    assert_eq!(second.stop(), Some(0));
    assert_eq!(first.stop(), Some(0));
}
