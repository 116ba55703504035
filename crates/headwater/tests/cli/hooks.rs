//! Hooks from outside: listed, set for a vDisk, tried on a copy, run before a seal.

use super::support::{Home, text};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A home whose server has these scripts as hooks.
fn home(scripts: &[(&str, &str, u32)]) -> Home {
    let home = Home::new();
    let directory = home.path("hooks");
    std::fs::create_dir(&directory).unwrap();
    for (name, script, mode) in scripts {
        std::fs::write(directory.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(directory.join(name), std::fs::Permissions::from_mode(*mode)).unwrap();
    }
    let mut config = std::fs::File::options().append(true).open(home.path("test.toml")).unwrap();
    writeln!(config, "[hooks]\ndir = '{}'\ntimeout_s = 30", directory.display()).unwrap();
    home
}

#[test]
fn hooks_are_tried_on_a_copy_that_is_thrown_away() {
    let write = "qemu-io -f raw -c 'write -P 7 0 1M' \"$HEADWATER_NBD_URI\" >&2 && echo $HEADWATER_VDISK";
    let home =
        home(&[("mark", write, 0o755), ("bad", "echo no licence; exit 4", 0o755), ("open", "", 0o777)]);
    let _server = home.start();
    home.image("in.raw", 3 << 20, 16 << 20);
    home.run(&["vdisk", "import", "office", "in.raw"]);

    let listed = home.json(&["hook", "list"]);
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|hook| hook["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bad", "linux-clean", "mark", "open"]);
    assert!(listed[3]["refused"].as_str().unwrap().contains("others may write"));

    assert!(home.refused(&["hook", "test", "office", "1"], 3).contains("vDisk office has no hooks"));
    assert!(home.refused(&["vdisk", "set", "office", "--hook", "marc"], 3).contains("there is no hook marc"));
    let set = home.json(&["vdisk", "set", "office", "--hook", "mark,bad"]);
    assert_eq!(set["hooks"], serde_json::json!(["mark", "bad"]));
    let failed = home.refused(&["hook", "test", "office", "1"], 1);
    assert!(failed.contains("hook bad failed with exit status: 4\n  | no licence"), "{failed}");

    let root = set["versions"][0]["root"].clone();
    let stored = home.store_bytes();
    let reports = home.json(&["hook", "test", "office", "1", "--hook", "mark"]);
    assert_eq!(reports[0]["touched_chunks"], 16);
    assert_eq!(reports[0]["lines"].as_array().unwrap().last().unwrap(), "office");
    assert!(home.run(&["hook", "test", "office", "1", "--hook", "mark"]).contains("nothing was changed"));
    assert_eq!(home.json(&["vdisk", "show", "office"])["versions"][0]["root"], root);
    assert_eq!((home.store_bytes(), home.files_in_store("drafts")), (stored, 0));
    assert!(home.refused(&["hook", "test", "office", "7", "--hook", "mark"], 3).contains("no version 7"));
    home.run(&["vdisk", "set", "office", "--no-hooks"]);
    assert_eq!(home.json(&["vdisk", "show", "office"])["hooks"], serde_json::json!([]));
}

/// Runs a program of e2fsprogs; what it prints.
fn e2fsprogs(program: &str, words: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(words).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install e2fsprogs"));
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A disk image with a root file system that has somebody's identity.
fn linux_image(home: &Home) {
    let root = home.path("root");
    for (path, content) in [
        ("etc/os-release", "ID=debian"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/ssh/ssh_host_ed25519_key", "PRIVATE KEY"),
        ("etc/ssh/sshd_config", "PermitRootLogin no"),
        ("usr/lib/os-release", "ID=debian"),
    ] {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), content).unwrap();
    }
    e2fsprogs("mke2fs", &["-q", "-t", "ext4", "-d", text(&root), text(&home.path("linux.raw")), "32M"]);
}

/// A file of a version, as the tools of ext4 read it from an export.
fn file_in(home: &Home, number: &str, file: &str) -> String {
    let out = home.path(&format!("{number}.raw"));
    let _ = std::fs::remove_file(&out);
    home.run(&["vdisk", "export", "office", text(&out), "--version", number]);
    e2fsprogs("e2fsck", &["-fn", text(&out)]);
    e2fsprogs("debugfs", &["-R", &format!("cat {file}"), text(&out)])
}

#[test]
fn a_seal_runs_the_hooks_of_the_vdisk_and_a_failing_one_seals_nothing() {
    let home = home(&[("bad", "echo no licence; exit 4", 0o755)]);
    let _server = home.start();
    linux_image(&home);
    home.run(&["vdisk", "import", "office", "linux.raw"]);
    home.run(&["vdisk", "set", "office", "--hook", "linux-clean,bad"]);
    home.run(&["version", "create", "office"]);

    let said = home.refused(&["version", "seal", "office", "2"], 1);
    assert!(said.contains("hook bad failed") && said.contains("no licence"), "{said}");
    assert_eq!(home.json(&["version", "show", "office", "2"])["state"], "draft");
    let told = || home.json(&["events", "--kind", "hook-failed"]);
    super::support::wait_for("the event", || told().as_array().unwrap().len() == 1);
    let event = told();
    assert_eq!(event[0]["subject"], "office", "{event}");
    let message = event[0]["message"].as_str().unwrap();
    assert!(message.contains("version 2 of vDisk office is not sealed: hook bad failed"), "{event}");

    // What failed has left nothing: without hooks the version has what the image had.
    home.run(&["version", "seal", "office", "2", "--no-hooks"]);
    assert!(file_in(&home, "2", "/etc/machine-id").starts_with("0123456789abcdef"));
    let sealed = home.json(&["audit", "--action", "version.seal"]);
    let last = sealed.as_array().unwrap().last().unwrap();
    assert_eq!(last["parameters"]["no_hooks"], true, "{sealed}");

    home.run(&["vdisk", "set", "office", "--hook", "linux-clean"]);
    home.run(&["version", "branch", "office", "2", "lab"]);
    assert_eq!(home.json(&["vdisk", "show", "lab"])["hooks"], serde_json::json!(["linux-clean"]));
    home.run(&["version", "create", "office"]);
    home.run(&["version", "seal", "office", "3"]);
    assert_eq!(file_in(&home, "3", "/etc/machine-id"), "");
    assert_eq!(file_in(&home, "3", "/etc/ssh/ssh_host_ed25519_key"), "");
    assert_eq!(file_in(&home, "3", "/etc/ssh/sshd_config"), "PermitRootLogin no");
}
