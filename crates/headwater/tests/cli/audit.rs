//! Who changed what: each request that changes something is found in the audit.

use super::support::{Home, wait_for};
use serde_json::Value;

fn fields<'a>(record: &'a Value, names: &[&str]) -> Vec<&'a str> {
    names.iter().map(|name| record[name].as_str().unwrap_or("-")).collect()
}

#[test]
fn what_is_done_refused_and_failed_is_recorded_with_who_and_from_where() {
    let home = Home::new();
    let server = home.start();
    home.run(&["device", "add", "52:54:00:12:34:56", "--name", "kiosk"]);
    home.refused(&["device", "add", "52:54:00:12:34:56"], 3);
    home.refused(&["vdisk", "delete", "none"], 3);
    std::fs::write(home.path("broken.qcow2"), b"QFI\xfb and then nothing").unwrap();
    home.refused(&["vdisk", "import", "broken", "broken.qcow2"], 1);
    let all = home.json(&["audit"]);
    let all = all.as_array().unwrap();
    let names = ["actor", "action", "object", "result"];
    assert_eq!(fields(&all[0], &names), ["admin", "device.add", "kiosk", "ok"]);
    assert_eq!(fields(&all[1], &names), ["admin", "device.add", "52:54:00:12:34:56", "refused"]);
    assert!(all[1]["message"].as_str().unwrap().contains("is device kiosk already"));
    assert_eq!(fields(&all[2], &names), ["admin", "vdisk.delete", "none", "refused"]);
    assert_eq!(fields(&all[3], &names), ["admin", "vdisk.import", "broken", "failed"]);
    assert_eq!(all.len(), 4, "reading is not recorded: {all:?}");
    assert!(all[0]["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(all[0]["parameters"]["mac"], "52:54:00:12:34:56");
    assert_ne!(all[0]["request"], all[1]["request"]);
    assert_eq!(server.stop(), Some(0));
    let _server = home.start();
    assert_eq!(home.json(&["audit"]).as_array().unwrap(), all, "it outlives a restart");
}

#[test]
fn the_audit_is_filtered_and_read_page_by_page() {
    let home = Home::new();
    let _server = home.start();
    for n in 0..12 {
        home.run(&["device", "add", &format!("52:54:00:00:00:{n:02x}"), "--name", &format!("pc-{n}")]);
    }
    home.run(&["device", "remove", "pc-3"]);
    let count = |words: &[&str]| home.json(&[&["audit"], words].concat()).as_array().unwrap().len();
    assert_eq!(count(&[]), 13);
    assert_eq!(count(&["--object", "pc-3"]), 2);
    assert_eq!(count(&["--object", "pc"]), 0);
    assert_eq!(count(&["--action", "device.remove"]), 1);
    assert_eq!(count(&["--action", "device"]), 13);
    assert_eq!(count(&["--result", "refused"]), 0);
    assert_eq!(count(&["--actor", "server:test"]), 0);
    assert_eq!(count(&["--since", "1h"]), 13);
    assert_eq!(count(&["--since", "2999-01-01"]), 0);
    let newest = home.json(&["audit", "--limit", "2"]);
    assert_eq!(newest[1]["action"], "device.remove");
    assert_eq!(newest[0]["object"], "pc-11");
    assert!(home.refused(&["audit", "--since", "soon"], 2).contains("is no point in time"));
}

#[test]
fn a_change_and_its_record_are_one_transaction() {
    let home = Home::new();
    let _server = home.start();
    home.run(&["device", "add", "52:54:00:12:34:56", "--name", "kiosk"]);
    let revision = || home.json(&["status"])["revision"].as_u64().unwrap();
    let before = revision();
    home.run(&["device", "remove", "kiosk"]);
    assert_eq!(revision(), before + 1, "the device, its event and the record went in together");
    assert_eq!(home.json(&["audit"])[1]["action"], "device.remove");
}

#[test]
fn whoever_has_no_token_is_an_event_and_not_in_the_audit() {
    let home = Home::new();
    let _server = home.start();
    home.cli(&["device", "add", "52:54:00:12:34:56"]).env("HEADWATER_TOKEN", "0".repeat(64)).assert().code(3);
    let kinds = |home: &Home| home.json(&["events"]).to_string();
    wait_for("the event", || kinds(&home).contains("api-refused"));
    assert_eq!(home.json(&["audit"]).as_array().unwrap().len(), 0);
}

#[test]
fn a_job_is_recorded_as_begun_and_then_as_it_ended() {
    let home = Home::new();
    let _server = home.start();
    home.image("a.raw", 1 << 20, 2 << 20);
    home.run(&["vdisk", "import", "office", "a.raw"]);
    wait_for("the end of the job", || home.json(&["audit"])[0]["result"] == "ok");
    let all = home.json(&["audit"]);
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(fields(&all[0], &["action", "object"]), ["vdisk.import", "office"]);
}
