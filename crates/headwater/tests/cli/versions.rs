//! The life of versions against a real server, with real writes over NBD.

use super::support::{Home, Server, qemu_img, qemu_io, qemu_io_read, text, wait_for};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// A vDisk `office` of 16 MiB whose first 3 MiB are data, in a home whose server runs.
fn office() -> Home {
    let home = Home::new();
    home.image("in.raw", 3 * MIB, 16 << 20);
    home
}

fn import(home: &Home) {
    home.run(&["vdisk", "import", "office", "in.raw"]);
}

/// A session; its id and its address.
fn session(home: &Home, arguments: &[&str]) -> (String, String) {
    let opened = home.json(&[&["session", "create", "office"], arguments].concat());
    let field = |name: &str| opened[name].as_str().unwrap().to_owned();
    (field("id"), field("uri"))
}

fn version(home: &Home, number: &str) -> Value {
    home.json(&["version", "show", "office", number])
}

/// Writes through a session of its own, which is closed afterwards.
fn write(home: &Home, number: &str, commands: &[&str]) {
    let (id, uri) = session(home, &["--version", number, "--write"]);
    qemu_io(&uri, commands);
    home.run(&["session", "close", &id]);
}

/// What a new production session reads.
fn in_production(home: &Home, commands: &[&str]) {
    let (id, uri) = session(home, &[]);
    qemu_io_read(&uri, commands);
    home.run(&["session", "close", &id]);
}

#[test]
fn what_was_written_to_a_version_is_in_production_after_its_promotion_and_not_after_its_revert() {
    let home = office();
    let _server = home.start();
    import(&home);
    let made = home.json(&["version", "create", "office", "--comment", "updates"]);
    assert_eq!(
        (&made["number"], &made["access"], &made["state"]),
        (&2.into(), &"maintenance".into(), &"draft".into())
    );
    write(&home, "2", &["write -P 7 1M 2M", "discard 0 64k", "flush"]);
    let drafted = version(&home, "2");
    assert!(drafted["draft"]["dirty"].is_null() && drafted["draft"]["holder"].is_null(), "{drafted}");
    home.run(&["version", "checkpoint", "office", "2"]);
    let sealed = home.json(&["version", "seal", "office", "2"]);
    assert_eq!((&sealed["state"], &sealed["root"]), (&"sealed".into(), &drafted["root"]));
    home.run(&["version", "promote", "office", "2", "--to", "test"]);
    let running = session(&home, &[]);
    home.run(&["version", "promote", "office", "2", "--to", "production"]);
    in_production(&home, &["read -P 7 1M 2M", "read -P 0 0 64k"]);
    // Who was running keeps what it had.
    qemu_img(&["compare", "-f", "raw", "-F", "raw", text(&home.path("in.raw")), &running.1]);
    home.run(&["session", "close", &running.0]);

    let would = home.json(&["version", "revert", "office", "--dry-run"]);
    assert!(would["would"][0].as_str().unwrap().contains("version 1"), "{would}");
    assert_eq!(home.json(&["vdisk", "show", "office"])["production"], 2);
    home.run(&["version", "revert", "office"]);
    let before = session(&home, &[]);
    qemu_img(&["compare", "-f", "raw", "-F", "raw", text(&home.path("in.raw")), &before.1]);
    let shown = home.run(&["vdisk", "show", "office"]);
    assert!(shown.contains("updates") && shown.contains("production <- boots"), "{shown}");
}

#[test]
fn a_promotion_is_refused_until_the_version_is_sealed_and_seals_are_refused_while_it_is_written() {
    let home = office();
    let _server = home.start();
    import(&home);
    home.run(&["version", "create", "office"]);
    let refused = |words: &[&str]| {
        let said = home.refused(words, 3);
        assert!(said.contains("hint: "), "{said}");
        said
    };
    // Before: the draft is empty.
    assert!(refused(&["version", "promote", "office", "2", "--to", "production"]).contains("not sealed"));
    // During: somebody writes.
    let (id, uri) = session(&home, &["--version", "2", "--write"]);
    qemu_io(&uri, &["write -P 9 4M 1M", "flush"]);
    assert!(refused(&["version", "promote", "office", "2", "--to", "production"]).contains("not sealed"));
    assert!(refused(&["version", "seal", "office", "2"]).contains("held by"));
    assert!(refused(&["session", "create", "office", "--version", "2", "--write"]).contains("held by"));
    home.run(&["version", "checkpoint", "office", "2"]);
    assert!(refused(&["version", "promote", "office", "2", "--to", "production"]).contains("not sealed"));
    assert!(refused(&["version", "delete", "office", "2"]).contains("hint: "));
    home.run(&["session", "close", &id]);
    // After: not yet sealed, then sealed.
    assert!(refused(&["version", "promote", "office", "2", "--to", "production"]).contains("not sealed"));
    home.run(&["version", "seal", "office", "2"]);
    assert!(refused(&["session", "create", "office", "--version", "2", "--write"]).contains("sealed"));
    let root = version(&home, "1")["root"].as_str().unwrap().to_owned();
    let wrong = ["version", "promote", "office", "2", "--to", "production", "--root", &root];
    assert!(refused(&wrong).contains("not what you saw"));
    home.run(&["version", "promote", "office", "2", "--to", "production"]);
    in_production(&home, &["read -P 9 4M 1M"]);
}

#[test]
fn what_a_flush_confirmed_is_there_after_kill_9_and_the_session_goes_on_with_its_token() {
    let home = office();
    let server = home.start();
    import(&home);
    home.run(&["version", "create", "office"]);
    let (id, uri) = session(&home, &["--version", "2", "--write"]);
    let (reader, _) = session(&home, &[]);
    qemu_io(&uri, &["write -P 5 2M 1M", "flush"]);
    let port = port_of(&uri);
    server.kill();
    let server = restart_on(&home, &port);
    let ids: Vec<String> = sessions(&home);
    assert!(ids.contains(&id) && ids.contains(&reader), "{ids:?}");
    assert!(version(&home, "2")["draft"]["dirty"].is_object());
    // The same export name, the same bytes, and it may go on writing.
    qemu_io(&uri, &["read -P 5 2M 1M", "write -P 6 8M 64k", "flush"]);
    server.kill();
    let _server = restart_on(&home, &port);
    qemu_io(&uri, &["read -P 5 2M 1M", "read -P 6 8M 64k"]);
    home.run(&["session", "close", &id]);
    home.run(&["version", "seal", "office", "2"]);
    home.run(&["version", "promote", "office", "2", "--to", "production"]);
    in_production(&home, &["read -P 5 2M 1M", "read -P 6 8M 64k"]);
}

#[test]
fn a_released_draft_takes_no_more_writes_of_its_former_holder() {
    let home = office();
    let _server = home.start();
    import(&home);
    home.run(&["version", "create", "office"]);
    let (_, old) = session(&home, &["--version", "2", "--write"]);
    qemu_io(&old, &["write -P 1 0 4k", "flush"]);
    home.run(&["version", "release", "office", "2"]);
    wait_for("the session to end", || sessions(&home).is_empty());
    let (id, new) = session(&home, &["--version", "2", "--write"]);
    qemu_io(&new, &["read -P 1 0 4k", "write -P 2 0 4k", "flush"]);
    let output = std::process::Command::new("qemu-io").args(["-f", "raw", &old, "-c", "read 0 4k"]).output();
    assert!(!output.unwrap().status.success(), "the old name opens nothing");
    qemu_io(&new, &["read -P 2 0 4k"]);
    home.run(&["session", "close", &id]);
}

#[test]
fn discarded_changes_are_kept_aside_and_the_draft_is_as_at_its_checkpoint() {
    let home = office();
    let server = home.start();
    import(&home);
    home.run(&["version", "create", "office"]);
    write(&home, "2", &["write -P 3 0 64k", "flush"]);
    let (_, uri) = session(&home, &["--version", "2", "--write"]);
    qemu_io(&uri, &["write -P 4 0 64k", "flush"]);
    home.run(&["version", "release", "office", "2"]);
    let draft = version(&home, "2")["draft"].clone();
    let epochs = format!("{}-{}", draft["dirty"]["from_epoch"], draft["epoch"]);
    let discard = |epochs: &str| {
        ["version", "discard", "office", "2", "--server", "test", "--epochs", epochs].map(str::to_owned)
    };
    let wrong = discard("1-1");
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    assert!(home.refused(&wrong, 3).contains("hint: "));
    let right = discard(&epochs);
    home.run(&right.iter().map(String::as_str).collect::<Vec<_>>());
    let orphans = home.json(&["version", "orphans", "office"]);
    assert_eq!(orphans[0]["state"], "kept", "{orphans}");
    let (id, uri) = session(&home, &["--version", "2", "--write"]);
    qemu_io(&uri, &["read -P 3 0 64k"]);
    home.run(&["session", "close", &id]);
    server.kill();
    let _server = home.start();
    assert_eq!(home.json(&["version", "orphans", "office"])[0]["state"], "kept");

    let epoch = orphans[0]["to_epoch"].to_string();
    let restored = home.json(&["version", "restore-orphan", "office", "2", &epoch, "found"]);
    assert_eq!(restored["versions"][0]["access"], "test", "{restored}");
    let opened = home.json(&["session", "create", "found", "--version", "1"]);
    qemu_io_read(opened["uri"].as_str().unwrap(), &["read -P 4 0 64k"]);
    assert_eq!(home.json(&["version", "orphans", "office"]).as_array().unwrap().len(), 0);
    assert!(home.refused(&["version", "delete-orphan", "office", "2", &epoch], 3).contains("hint: "));
}

#[test]
fn discarded_changes_that_nobody_wants_are_deleted_with_their_files() {
    let home = office();
    let _server = home.start();
    import(&home);
    home.run(&["version", "create", "office"]);
    let (_, uri) = session(&home, &["--version", "2", "--write"]);
    qemu_io(&uri, &["write -P 4 0 64k", "flush"]);
    home.run(&["version", "release", "office", "2"]);
    home.run(&["version", "discard", "office", "2", "--server", "test", "--epochs", "1-2"]);
    assert_eq!(home.files_in_store("drafts"), 1);
    home.run(&["version", "delete-orphan", "office", "2", "2"]);
    assert_eq!(home.files_in_store("drafts"), 0);
}

#[test]
fn a_branch_is_a_vdisk_of_its_own_and_moves_no_data() {
    let home = office();
    let _server = home.start();
    import(&home);
    let before = home.store_bytes();
    home.run(&["version", "branch", "office", "1", "lab"]);
    assert_eq!(home.store_bytes(), before);
    home.run(&["vdisk", "delete", "office"]);
    home.run(&["vdisk", "export", "lab", "out.raw"]);
    assert_eq!(std::fs::read(home.path("out.raw")).unwrap(), std::fs::read(home.path("in.raw")).unwrap());
}

#[test]
fn a_gate_with_a_date_opens_by_itself() {
    let home = office();
    let _server = home.start();
    import(&home);
    home.run(&["version", "create", "office"]);
    home.run(&["version", "seal", "office", "2"]);
    let soon = time::OffsetDateTime::now_utc() + time::Duration::seconds(3);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    home.run(&["version", "promote", "office", "2", "--to", "production", "--at", &soon]);
    let waits = home.json(&["version", "pending"]);
    assert_eq!(
        (&waits[0]["version"], &waits[0]["gate"]["gate"]["kind"]),
        (&2.into(), &"at".into()),
        "{waits}"
    );
    assert_eq!(home.json(&["vdisk", "show", "office"])["production"], 1);
    wait_for("the gate", || home.json(&["vdisk", "show", "office"])["production"] == 2);
    assert_eq!(home.json(&["version", "pending"]).as_array().unwrap().len(), 0);
    let opened = home.json(&["audit", "--actor", "server:test", "--action", "version.promote"]);
    assert_eq!((&opened[0]["object"], &opened[0]["result"]), (&"office/2".into(), &"ok".into()), "{opened}");
}

#[test]
fn devices_boot_the_version_of_their_kind_and_pins_come_first() {
    let home = office();
    let _server = home.start();
    import(&home);
    home.run(&[
        "device",
        "add",
        "52:54:00:00:00:01",
        "--name",
        "m-07",
        "--vdisk",
        "office",
        "--kind",
        "maintenance",
    ]);
    let state = || home.json(&["device", "show", "m-07"])["not_booting"].as_str().unwrap_or("ok").to_owned();
    assert!(state().contains("no version in maintenance"), "{}", state());
    home.run(&["device", "set", "m-07", "--kind", "test"]);
    assert_eq!(home.json(&["device", "show", "m-07"])["kind"], "test");
    home.run(&["version", "create", "office"]);
    home.run(&["version", "seal", "office", "2"]);
    home.run(&["version", "pin", "office", "2", "--device", "m-07"]);
    assert_eq!(home.json(&["device", "show", "m-07"])["pins"]["office"], 2);
    assert!(home.refused(&["version", "delete", "office", "2"], 3).contains("pinned"));
    home.run(&["version", "unpin", "office", "--device", "m-07"]);
    home.run(&["version", "delete", "office", "2"]);
    assert!(home.refused(&["version", "show", "office", "2"], 3).contains("no version 2"));
}

fn sessions(home: &Home) -> Vec<String> {
    let list = home.json(&["session", "list"]);
    list.as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

fn port_of(uri: &str) -> String {
    let (_, rest) = uri.rsplit_once(':').unwrap();
    rest.split('/').next().unwrap().to_owned()
}

/// Starts the server again where its clients look for it.
fn restart_on<'a>(home: &'a Home, port: &str) -> Server<'a> {
    let config = format!(
        "[server]\nname = 'test'\n[http]\nlisten = '127.0.0.1:0'\n[nbd]\nlisten = '127.0.0.1:{port}'\n"
    );
    std::fs::write(home.path("test.toml"), config).unwrap();
    home.start()
}

#[test]
fn a_merged_version_is_rebuilt_while_it_is_read_and_says_the_same() {
    let home = office();
    let server = home.start();
    import(&home);
    for (number, change) in [("2", "write -P 5 1M 1M"), ("3", "write -P 7 1M 128k")] {
        home.run(&["version", "create", "office"]);
        write(&home, number, &[change, "discard 0 64k", "flush"]);
        home.run(&["version", "seal", "office", number]);
        home.run(&["version", "promote", "office", number, "--to", "test"]);
        home.run(&["version", "promote", "office", number, "--to", "production"]);
    }
    let before = version(&home, "3");
    let (id, uri) = session(&home, &[]);
    let merged = home.json(&["version", "merge", "office", "3"]);
    assert_eq!(merged["root"], before["root"]);
    wait_for("the rebuilt files", || server.log().contains("merged office version 3"));
    let rebuilt = || home.json(&["audit", "--actor", "server:test", "--action", "version.rebuild"]);
    wait_for("its record in the audit", || rebuilt()[0]["object"] == "office/3");
    qemu_io_read(&uri, &["read -P 7 1M 128k", "read -P 0 0 64k"]);
    home.run(&["session", "close", &id]);
    in_production(&home, &["read -P 7 1M 128k", "read -P 0 0 64k"]);
    let after = version(&home, "3");
    assert!(after["delta_bytes"].as_u64() > before["delta_bytes"].as_u64(), "{before} {after}");
    drop(server);
    home.run(&["store", "check", text(&home.path("state/store"))]);
}
