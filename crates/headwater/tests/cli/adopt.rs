//! Bytes that were brought by other means do not travel.

use super::farm::{home_of, join, wait_for_link};
use super::support::{text, wait_for};
use farm_db::etcd_child::EtcdCluster;

#[test]
fn an_adopted_copy_is_copied_and_not_fetched() {
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
    std::fs::copy(&image, two.path("copy.raw")).unwrap();
    assert!(two.refused(&["adopt", text(&two.path("state"))], 1).contains("without layers"));
    let adopted = two.json(&["adopt", "copy.raw"]);
    assert_eq!(
        (adopted["files"].as_array().unwrap().len(), &adopted["taken_bytes"]),
        (1, &serde_json::json!(0))
    );
    one.run(&["vdisk", "import", "office", "in.raw"]);
    let complete = || two.json(&["replication", "status"])[0]["complete_versions"] == 1;
    wait_for("the version on the other server", complete);
    assert_eq!(two.json(&["adopt"])["taken_bytes"], 8 << 20, "all of it was copied");
    assert!(two.json(&["adopt", "--forget"])["files"].as_array().unwrap().is_empty());
    assert_eq!(second.stop(), Some(0));
    assert_eq!(first.stop(), Some(0));
}
