//! A server whose farm database is a real etcd, also while that is away.

use super::support::{Home, Server, qemu_io_read, text, wait_for};
use farm_db::etcd_child::EtcdCluster;

/// A home whose server keeps its records in the cluster.
fn home_on(cluster: &EtcdCluster) -> Home {
    let home = Home::new();
    let endpoints: Vec<String> = cluster.endpoints().iter().map(|endpoint| format!("'{endpoint}'")).collect();
    let farm = format!("[farm]\ndatabase = 'etcd'\nendpoints = [{}]\n", endpoints.join(", "));
    let config = std::fs::read_to_string(home.path("test.toml")).unwrap();
    std::fs::write(home.path("test.toml"), config + &farm).unwrap();
    home
}

/// What a new production session reads.
fn in_production(home: &Home) {
    let opened = home.json(&["session", "create", "office"]);
    let field = |name: &str| opened[name].as_str().unwrap().to_owned();
    qemu_io_read(&field("uri"), &["read -P 0 8M 1M"]);
    home.run(&["session", "close", &field("id")]);
}

/// What a machine is answered that asks to boot.
fn boots(server: &Server<'_>) -> String {
    let answer = server.get("/boot/v1/script?mac=52:54:00:12:34:56");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn without_etcd_production_goes_on_also_after_a_restart_and_changes_are_refused_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut etcd = EtcdCluster::start(dir.path(), 1);
    let home = home_on(&etcd);
    let server = home.start();
    home.image("in.raw", 3 << 20, 16 << 20);
    home.run(&["vdisk", "import", "office", "in.raw"]);
    home.run(&["device", "add", "52:54:00:12:34:56", "--name", "kiosk"]);
    home.run(&["device", "assign", "kiosk", "office"]);
    home.run(&["version", "create", "office"]);
    home.run(&["version", "seal", "office", "2"]);
    let booted = boots(&server);
    assert!(
        booted.contains("cannot boot from vDisk office"),
        "it was looked for in the version that the device boots: {booted}"
    );
    let (devices, drafts) = (home.json(&["device", "list"]), home.files_in_store("drafts"));
    let records = home.path("state/farm.records");
    let is_kept = || {
        let kept = String::from_utf8_lossy(&std::fs::read(&records).unwrap()).into_owned();
        kept.contains("/versions/office/0000000002") && !kept.contains("/drafts/office/")
    };
    wait_for("the records to be remembered", || records.exists() && is_kept());

    etcd.kill();
    let refused = |words: &[&str]| {
        let said = home.refused(words, 1);
        assert!(said.contains("the farm database cannot be reached") && said.contains("hint: "), "{said}");
    };
    let promote = ["version", "promote", "office", "2", "--to", "production"];
    refused(&promote);
    refused(&["device", "add", "52:54:00:12:34:57"]);
    let status = home.json(&["farm", "status"]);
    let database = &status["database"];
    assert_eq!((&database["reachable"], &database["members"][0]["healthy"]), (&false.into(), &false.into()));
    assert!(database["remembered"]["revision"].as_u64() > Some(1), "{status}");
    assert!(database["remembered"]["since_ms"].as_u64() <= status["at_ms"].as_u64(), "{status}");
    let said = home.run(&["farm", "status"]);
    assert!(
        said.contains("cannot be reached; what follows is revision") && said.contains("hint: "),
        "{said}"
    );
    assert!(
        home.refused(&["farm", "backup", text(&home.path("farm.backup"))], 1).contains("cannot be reached")
    );
    assert_eq!(boots(&server), booted);
    in_production(&home);
    assert_eq!(server.stop(), Some(0));

    let server = home.start();
    assert_eq!(home.json(&["device", "list"]), devices);
    let since = |status: &serde_json::Value| status["database"]["remembered"]["since_ms"].as_u64();
    assert!(since(&home.json(&["farm", "status"])) <= since(&status), "since the records were written down");
    assert_eq!(boots(&server), booted);
    in_production(&home);
    refused(&promote);
    assert_eq!(home.files_in_store("drafts"), drafts, "nothing is tidied up meanwhile");

    etcd.restart();
    wait_for("the promotion", || home.cli(&promote).ok().is_ok());
    assert_eq!(home.json(&["vdisk", "show", "office"])["production"], 2);
    in_production(&home);
    let kinds = || home.json(&["events"]).to_string();
    wait_for("the event", || kinds().contains("database-back"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_first_start_without_etcd_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut etcd = EtcdCluster::start(dir.path(), 1);
    let home = home_on(&etcd);
    etcd.kill();
    let output = home.serve().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("the farm database cannot be reached") && said.contains("hint: "), "{said}");
}
