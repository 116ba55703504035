//! Servers that become one farm: tokens, links, what one imports comes to the other, removal.

use super::support::{Home, wait_for};
use farm_db::etcd_child::EtcdCluster;
use std::net::TcpListener;

/// A home of a server with this name on the cluster, and where its peers will reach it.
pub(crate) fn home_of(server: &str, cluster: &EtcdCluster) -> (Home, String) {
    let home = Home::new();
    // Free at this moment; the server binds it a moment later.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let endpoints: Vec<String> = cluster.endpoints().iter().map(|endpoint| format!("'{endpoint}'")).collect();
    let farm = format!(
        "[mesh]\nlisten = '{address}'\n[farm]\ndatabase = 'etcd'\nendpoints = [{}]\n",
        endpoints.join(", ")
    );
    let config = std::fs::read_to_string(home.path("test.toml")).unwrap();
    let config = config.replace("name = 'test'", &format!("name = '{server}'")) + &farm;
    std::fs::write(home.path("test.toml"), config).unwrap();
    (home, address)
}

/// Lets a second server, which does not run yet, join the farm of the first one.
pub(crate) fn join(one: &Home, two: &Home, address: &str) {
    let token = one.json(&["farm", "token"])["token"].as_str().unwrap().to_owned();
    let config = two.path("test.toml").display().to_string();
    two.run(&["farm", "join", &token, "--address", address, "--config", &config]);
}

/// Waits until the second server is connected with the first one.
pub(crate) fn wait_for_link(two: &Home) {
    let connected = || two.json(&["replication", "status"])[0]["peers"] == serde_json::json!(["pvs01"]);
    wait_for("the link", connected);
}

#[test]
fn a_server_joins_once_with_a_token_pulls_what_is_imported_and_is_refused_when_it_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdCluster::start(dir.path(), 1);
    let (one, one_address) = home_of("pvs01", &etcd);
    let first = one.start();
    assert!(one.refused(&["farm", "token"], 3).contains("farm init"));
    one.run(&["farm", "init", "--address", &one_address]);
    assert!(one.refused(&["farm", "init", "--address", &one_address], 3).contains("already"));
    let token = one.json(&["farm", "token"])["token"].as_str().unwrap().to_owned();

    let (two, two_address) = home_of("pvs02", &etcd);
    let config = two.path("test.toml").display().to_string();
    let join = ["farm", "join", &token, "--address", &two_address, "--config", &config];
    two.run(&join);
    assert!(two.refused(&join, 1).contains("an identity already"));
    let (three, three_address) = home_of("pvs03", &etcd);
    let config = three.path("test.toml").display().to_string();
    let again = ["farm", "join", &token, "--address", &three_address, "--config", &config];
    assert!(three.refused(&again, 1).contains("was used by server pvs02"));

    let second = two.start();
    let connected = || two.json(&["replication", "status"])[0]["peers"] == serde_json::json!(["pvs01"]);
    wait_for("the link", connected);
    one.image("in.raw", 3 << 20, 16 << 20);
    one.run(&["replication", "pause"]);
    one.run(&["vdisk", "import", "office", "in.raw"]);
    let reason = || two.json(&["replication", "backlog"])[0]["reason"] == "paused";
    wait_for("the pause in the other server's backlog", reason);
    assert_eq!(two.json(&["replication", "status"])[0]["complete_versions"], 0);
    assert!(two.refused(&["replication", "now", "office"], 3).contains("replication resume"));
    two.run(&["replication", "resume"]);
    assert_eq!(two.json(&["replication", "now", "office"])["now"]["office"], 1);
    assert_eq!(two.json(&["replication", "now", "office", "--undo"])["now"], serde_json::json!({}));
    let complete = || two.json(&["replication", "status"])[0]["complete_versions"] == 1;
    wait_for("the version on the other server", complete);
    assert_eq!(one.json(&["server", "show", "pvs02"])["incarnation"], 1);

    let status = two.json(&["farm", "status", "--check"]);
    let server = |at: usize| (status["servers"][at]["name"].clone(), status["servers"][at]["state"].clone());
    assert_eq!(
        (server(0), server(1)),
        (("pvs01".into(), "up".into()), ("pvs02".into(), "up".into())),
        "{status}"
    );
    assert_eq!(status["servers"][0]["report"]["complete_versions"], 1, "{status}");
    assert!(status["servers"][0]["report"]["certificate_ends_ms"].is_u64(), "{status}");
    assert_eq!(
        (&status["database"]["engine"], &status["database"]["members"][0]["healthy"]),
        (&"etcd".into(), &true.into())
    );

    let arrivals = one.json(&["replication", "test"]);
    let arrived = |at: usize| (arrivals[at]["server"].clone(), arrivals[at]["arrived_after_ms"].is_u64());
    assert_eq!((arrived(0), arrived(1)), (("pvs01".into(), true), ("pvs02".into(), true)), "{arrivals}");
    assert_eq!((&arrivals[0]["is_origin"], &arrivals[1]["is_connected"]), (&true.into(), &true.into()));

    one.run(&["server", "remove", "pvs02"]);
    let peers = || one.json(&["replication", "status"])[0]["peers"].clone();
    wait_for("the end of the link", || peers() == serde_json::json!([]));
    assert!(two.refused(&["replication", "status"], 3).contains("token"), "its tokens went with it");
    assert_eq!(second.stop(), Some(0));
    assert_eq!(first.stop(), Some(0));
    assert!(!two.serve().output().unwrap().status.success(), "it was removed");
}
