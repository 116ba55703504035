//! vDisks from end to end: in, out, and what must leave nothing behind.

use super::support::{Home, qemu_img, qemu_io, send, text, wait_for};
use rustix::process::Signal;
use std::io::Write;

const MIB: usize = 1 << 20;

#[test]
fn an_image_comes_back_as_it_went_in_whatever_its_format() {
    let home = Home::new();
    let _server = home.start();
    let raw = home.image("in.raw", 5 * MIB + 512, 64 << 20);
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "-c", text(&raw), text(&home.path("in.qcow2"))]);
    home.run(&["vdisk", "import", "of-raw", "in.raw", "--comment", "the first"]);
    home.run(&["vdisk", "import", "of-qcow2", "in.qcow2", "--format", "qcow2"]);
    let piped = home.cli(&["vdisk", "import", "of-pipe", "-"]).pipe_stdin(&raw).unwrap().assert().success();
    assert!(String::from_utf8_lossy(&piped.get_output().stdout).contains("of-pipe"));

    let vdisks = home.json(&["vdisk", "list"]);
    let names: Vec<&str> =
        vdisks.as_array().unwrap().iter().map(|vdisk| vdisk["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["of-pipe", "of-qcow2", "of-raw"]);
    let roots: Vec<&str> = (0..3).map(|n| vdisks[n]["versions"][0]["root"].as_str().unwrap()).collect();
    assert!(roots.iter().all(|root| *root == roots[0]), "the same bytes have the same root");
    let shown = home.json(&["vdisk", "show", "of-raw"]);
    assert_eq!(shown["size_bytes"], 64 << 20);
    assert_eq!(shown["versions"][0]["access"], "production");
    assert_eq!(shown["versions"][0]["comment"], "the first");
    assert!(shown["versions"][0]["not_bootable"].is_string(), "it has no kernel");

    home.run(&["vdisk", "export", "of-qcow2", "out.raw"]);
    assert_eq!(std::fs::read(home.path("out.raw")).unwrap(), std::fs::read(&raw).unwrap());
    home.run(&["vdisk", "export", "of-raw", "out.qcow2"]);
    qemu_img(&["check", text(&home.path("out.qcow2"))]);
    qemu_img(&["compare", text(&raw), text(&home.path("out.qcow2"))]);
    assert!(home.refused(&["vdisk", "export", "of-raw", "out.raw"], 1).contains("exists already"));

    for name in names {
        assert!(home.store_bytes() > 0, "the content stays as long as a vDisk has it");
        home.run(&["vdisk", "delete", name]);
    }
    assert_eq!(home.store_bytes(), 0);
    assert!(home.refused(&["vdisk", "show", "of-raw"], 3).contains("hint: "));
}

#[test]
fn a_session_streams_the_vdisk_to_a_foreign_client_and_keeps_it_from_being_deleted() {
    let home = Home::new();
    let server = home.start();
    let raw = home.image("in.raw", 5 * MIB + 512, 64 << 20);
    home.run(&["vdisk", "import", "office", "in.raw"]);
    let opened = home.json(&["session", "create", "office"]);
    let uri = opened["uri"].as_str().unwrap();
    qemu_img(&["compare", "-f", "raw", "-F", "raw", text(&raw), uri]);
    let sessions = home.json(&["session", "list"]);
    assert_eq!((&sessions[0]["id"], &sessions[0]["vdisk"]), (&opened["id"], &"office".into()));
    let token = uri.rsplit('/').next().unwrap();
    assert!(!sessions.to_string().contains(token) && !server.get("/").contains(token), "the token is secret");
    assert!(home.refused(&["vdisk", "delete", "office"], 3).contains("open sessions read it"));
    home.run(&["session", "close", opened["id"].as_str().unwrap()]);
    home.run(&["vdisk", "delete", "office"]);
    assert!(home.refused(&["session", "create", "office"], 3).contains("hint: "));
}

#[test]
fn a_scratch_session_takes_writes_that_nobody_else_sees() {
    let home = Home::new();
    let _server = home.start();
    let raw = home.image("in.raw", 5 * MIB, 16 << 20);
    home.run(&["vdisk", "import", "office", "in.raw"]);
    let uri = |arguments: &[&str]| {
        let opened = home.json(&[&["session", "create", "office"], arguments].concat());
        opened["uri"].as_str().unwrap().to_owned()
    };
    let scratch = uri(&["--scratch", "8MiB"]);
    qemu_io(&scratch, &["write -P 7 1M 3M", "flush"]);
    qemu_img(&["compare", "-f", "raw", "-F", "raw", text(&raw), &uri(&[])]);
    qemu_io(&scratch, &["read -P 7 1M 3M", "discard 1M 64k", "read -P 0 1M 64k"]);
    assert!(home.refused(&["session", "create", "office", "--scratch", "0"], 3).contains("hint: "));
}

#[test]
fn a_taken_name_is_refused_before_anything_is_read() {
    let home = Home::new();
    let _server = home.start();
    home.image("a.raw", MIB, 2 << 20);
    home.run(&["vdisk", "import", "one", "a.raw"]);
    let said = home.refused(&["vdisk", "import", "one", "a.raw"], 3);
    assert!(said.contains("there is a vDisk one already") && said.contains("hint: "), "{said}");
    assert_eq!(
        home.json(&["events"]).as_array().unwrap().iter().filter(|e| e["kind"] == "import-failed").count(),
        0
    );
}

#[test]
fn images_that_cannot_be_imported_leave_nothing_behind() {
    let home = Home::new();
    let _server = home.start();
    let raw = home.image("a.raw", 3 * MIB, 8 << 20);
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", text(&raw), text(&home.path("a.qcow2"))]);
    let whole = std::fs::read(home.path("a.qcow2")).unwrap();
    std::fs::write(home.path("cut.qcow2"), &whole[..whole.len() / 2]).unwrap();
    let mut corrupt = whole.clone();
    corrupt[40..48].copy_from_slice(&u64::MAX.to_be_bytes());
    std::fs::write(home.path("corrupt.qcow2"), &corrupt).unwrap();
    std::fs::write(home.path("odd.raw"), vec![1; 1000]).unwrap();
    std::fs::write(home.path("empty.raw"), []).unwrap();
    for file in ["cut.qcow2", "corrupt.qcow2", "odd.raw", "empty.raw"] {
        let said = home.refused(&["vdisk", "import", "x", file], 1);
        assert!(said.starts_with("error: "), "{said}");
    }
    let said = home.refused(&["vdisk", "import", "x", "a.qcow2", "--format", "raw"], 1);
    assert!(said.contains("is a qcow2 image, not raw"), "{said}");
    let said = home.refused(&["vdisk", "import", "x", "none.raw"], 1);
    assert!(said.contains("none.raw cannot be read") && said.contains("hint: "), "{said}");
    assert!(home.refused(&["vdisk", "import", "Capital", "a.raw"], 2).contains("may not stand in a name"));
    assert!(home.refused(&["vdisk", "import", "x", "a.raw", "--store", "none"], 3).contains("store none"));
    assert_eq!(home.json(&["vdisk", "list"]).as_array().unwrap().len(), 0);
    assert_eq!(home.store_bytes(), 0);
    home.run(&["vdisk", "import", "x", "a.qcow2"]);
}

#[test]
fn an_image_that_does_not_fit_is_refused() {
    let home = Home::new();
    // A file system of 64 MiB for this server alone, in a mount namespace of its own.
    std::fs::create_dir_all(home.path("state/store")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64m tmpfs {store} && exec {headwater} serve --config {config} --state-dir {state}",
        store = text(&home.path("state/store")),
        headwater = super::support::HEADWATER,
        config = text(&home.path("test.toml")),
        state = text(&home.path("state")),
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    let _server = home.start_by(command);
    home.image("large.raw", 80 * MIB, 80 << 20);
    let said = home.refused(&["vdisk", "import", "large", "large.raw"], 1);
    assert!(said.contains("needs at least") && said.contains("hint: "), "{said}");
    assert_eq!(home.json(&["vdisk", "list"]).as_array().unwrap().len(), 0);
    assert_eq!(home.store_bytes(), 0);
}

#[test]
fn ctrl_c_cancels_an_import_from_a_pipe() {
    let home = Home::new();
    let _server = home.start();
    let mut import = home.spawn_cli(&["vdisk", "import", "half", "-"]);
    import.stdin.as_mut().unwrap().write_all(&vec![1; 20 * MIB]).unwrap();
    wait_for("the import to begin", || running(&home) == 1);
    send(&import, Signal::INT);
    let output = import.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cancelled; nothing of it is left"), "{said}");
    nothing_is_left(&home);
}

#[test]
fn ctrl_c_cancels_an_import_of_a_file() {
    let home = Home::new();
    let server = home.start();
    home.image("large.raw", 700 * MIB, 700 << 20);
    let import = home.spawn_cli(&["vdisk", "import", "half", "large.raw"]);
    wait_for("the import to begin", || running(&home) == 1);
    // The server stands still until the command line has been told.
    server.signal(Signal::STOP);
    send(&import, Signal::INT);
    server.signal(Signal::CONT);
    let output = import.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("cancelled; nothing of it is left"), "{said}");
    nothing_is_left(&home);
}

#[test]
fn a_server_killed_in_an_import_lists_nothing_and_has_its_space_back() {
    let home = Home::new();
    home.image("whole.raw", 3 * MIB, 8 << 20);
    let server = home.start();
    home.run(&["vdisk", "import", "whole", "whole.raw"]);
    let before = home.store_bytes();
    let mut import = home.spawn_cli(&["vdisk", "import", "half", "-"]);
    import.stdin.as_mut().unwrap().write_all(&vec![1; 40 * MIB]).unwrap();
    wait_for("data in the store", || {
        std::fs::read_dir(home.path("state/store/incoming")).unwrap().count() > 0
    });
    server.kill();
    let output = import.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));

    let _server = home.start();
    let vdisks = home.json(&["vdisk", "list"]);
    assert_eq!(vdisks.as_array().unwrap().len(), 1);
    assert_eq!(home.store_bytes(), before);
    assert_eq!((home.files_in_store("incoming"), home.files_in_store("unclaimed")), (0, 0));
    home.run(&["vdisk", "export", "whole", "out.raw"]);
    assert_eq!(std::fs::read(home.path("out.raw")).unwrap(), std::fs::read(home.path("whole.raw")).unwrap());
}

#[test]
fn a_stop_in_an_import_undoes_it() {
    let home = Home::new();
    let server = home.start();
    let mut import = home.spawn_cli(&["vdisk", "import", "half", "-"]);
    import.stdin.as_mut().unwrap().write_all(&vec![1; 20 * MIB]).unwrap();
    wait_for("the import to begin", || running(&home) == 1);
    assert_eq!(server.stop(), Some(0));
    assert!(!import.wait().unwrap().success());
    assert_eq!((home.files_in_store("incoming"), home.files_in_store("unclaimed")), (0, 0));
    let _server = home.start();
    nothing_is_left(&home);
}

fn running(home: &Home) -> u64 {
    home.json(&["status"])["jobs"].as_u64().unwrap()
}

fn nothing_is_left(home: &Home) {
    assert_eq!(running(home), 0);
    assert_eq!(home.json(&["vdisk", "list"]).as_array().unwrap().len(), 0);
    assert_eq!(home.store_bytes(), 0);
    assert_eq!((home.files_in_store("incoming"), home.files_in_store("unclaimed")), (0, 0));
}
