//! Hooks from outside: listed, set for a vDisk, tried on a copy.

use super::support::Home;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

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
