//! The server's start and stop, its configuration, and its records over a restart.

use super::support::Home;
use std::net::TcpListener;

#[test]
fn records_and_the_token_outlive_a_restart() {
    let home = Home::new();
    let server = home.start();
    home.run(&["device", "add", "52:54:00:12:34:56"]);
    home.run(&["collection", "create", "lab", "--cache", "2GiB", "--prefix", "lab-", "--digits", "2"]);
    home.run(&["device", "add", "52-54-00-12-34-57", "--collection", "lab"]);
    let token = std::fs::read(home.path("state/admin.token")).unwrap();
    let before = home.json(&["device", "list"]);
    assert_eq!(server.stop(), Some(0));
    assert!(home.refused(&["status"], 4).contains("hint: is the server running?"));
    let _server = home.start();
    assert_eq!(home.json(&["device", "list"]), before);
    assert_eq!(before[0]["name"], "lab-01");
    assert_eq!(std::fs::read(home.path("state/admin.token")).unwrap(), token);
    let kinds: Vec<String> = home
        .json(&["events"])
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "server-started").count(), 2, "{kinds:?}");
    assert!(kinds.contains(&"server-stopped".to_owned()), "{kinds:?}");
}

#[test]
fn devices_are_added_changed_and_removed() {
    let home = Home::new();
    let _server = home.start();
    let said = home.refused(&["device", "add", "52:54:00:12:34"], 2);
    assert!(said.contains("10 hexadecimal digits instead of 12"), "{said}");
    home.run(&["device", "add", "52:54:00:12:34:56", "--name", "kiosk"]);
    assert!(home.refused(&["device", "add", "52:54:00:12:34:56"], 3).contains("is device kiosk already"));
    assert!(home.refused(&["device", "assign", "kiosk", "none"], 3).contains("there is no vDisk none"));
    home.image("a.raw", 1 << 20, 2 << 20);
    home.run(&["vdisk", "import", "office", "a.raw"]);
    home.run(&["device", "assign", "kiosk", "office"]);
    let said = home.refused(&["vdisk", "delete", "office"], 3);
    assert!(said.contains("devices boot or pin it: kiosk") && said.contains("hint: "), "{said}");
    home.run(&["device", "set", "kiosk", "--name", "till", "--disable"]);
    let shown = home.json(&["device", "show", "till"]);
    assert_eq!((&shown["disabled"], &shown["vdisks"][0]), (&true.into(), &"office".into()));
    home.run(&["device", "assign", "till", "--collection-default"]);
    home.run(&["vdisk", "delete", "office"]);
    home.run(&["device", "remove", "till"]);
    assert!(home.refused(&["device", "show", "till"], 3).contains("there is no device till"));
    assert!(home.refused(&["device", "shwo", "till"], 2).contains("show"), "a typing error finds the verb");
}

#[test]
fn a_port_in_use_is_named_with_a_hint() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    std::fs::write(home.path("test.toml"), format!("[http]\nlisten = '127.0.0.1:{port}'\n")).unwrap();
    let output = home.serve().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("hint: another program"), "{said}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    let home = Home::new();
    std::fs::write(home.path("test.toml"), "[http]\nlistne = '127.0.0.1:0'\n").unwrap();
    let output = home.serve().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("unknown key http.listne") && said.contains("did you mean http.listen?"), "{said}");
    let said = home.refused(&["config", "check", "--config", "test.toml"], 1);
    assert!(said.contains("did you mean http.listen?"), "{said}");
    std::fs::write(home.path("shown.toml"), home.run(&["config", "show"])).unwrap();
    home.run(&["config", "check", "--config", "shown.toml"]);
}

#[test]
fn a_second_server_on_the_same_state_is_refused() {
    let home = Home::new();
    let _server = home.start();
    let output = home.serve().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another headwater uses this database") && said.contains("hint: "), "{said}");
    home.run(&["status"]);
}

#[test]
fn the_api_needs_the_token_and_the_status_page_does_not() {
    let home = Home::new();
    let server = home.start();
    home.run(&["device", "add", "52:54:00:12:34:56"]);
    assert!(server.get("/v1/devices").starts_with("HTTP/1.1 401"));
    assert!(server.get("/v1/nothing").starts_with("HTTP/1.1 401"), "what exists is not told either");
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"));
    let page = server.get("/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("52:54:00:12:34:56"), "{page}");
    let token = std::fs::read_to_string(home.path("state/admin.token")).unwrap();
    assert!(!page.contains(token.trim()));
    let mut wrong = home.cli(&["status"]);
    let output = wrong.env("HEADWATER_TOKEN", "0".repeat(64)).assert().code(3);
    assert!(String::from_utf8_lossy(&output.get_output().stderr).contains("hint: "));
    let state = std::fs::read(home.path("state/farm.db-wal")).unwrap();
    let found = state.windows(64).any(|window| window == token.trim().as_bytes());
    assert!(!found, "only the token's hash is stored");
}

#[test]
fn events_are_followed_as_they_happen() {
    let home = Home::new();
    let server = home.start();
    let mut follow = home.spawn_cli(&["events", "--follow", "--output", "json"]);
    let lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    let mut kinds = lines.map(|line| {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        event["kind"].as_str().unwrap().to_owned()
    });
    assert_eq!(kinds.next().as_deref(), Some("server-started"));
    home.run(&["device", "add", "52:54:00:12:34:56"]);
    assert_eq!(kinds.next().as_deref(), Some("device-added"));
    assert_eq!(server.stop(), Some(0), "a follower does not hold up the stop");
    let _server = home.start();
    assert_eq!(kinds.next().as_deref(), Some("server-stopped"), "it goes on behind what it has seen");
    assert_eq!(kinds.next().as_deref(), Some("server-started"));
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn events_are_filtered() {
    let home = Home::new();
    let _server = home.start();
    home.run(&["device", "add", "52:54:00:12:34:56", "--name", "kiosk"]);
    home.run(&["device", "add", "52:54:00:12:34:57", "--name", "till"]);
    home.run(&["device", "remove", "till"]);
    let count = |words: &[&str]| home.json(&[&["events"], words].concat()).as_array().unwrap().len();
    assert_eq!(count(&["--kind", "device-added"]), 2);
    assert_eq!(count(&["--kind", "device-added", "--kind", "device-removed"]), 3);
    assert_eq!(count(&["--subject", "till"]), 2);
    assert_eq!(count(&["--severity", "error"]), 0);
    assert_eq!(count(&["--since", "2999-01-01"]), 0);
    assert_eq!(count(&["--limit", "1"]), 1);
    assert!(home.refused(&["events", "--kind", "device-exploded"], 3).contains("events.md"));
}
