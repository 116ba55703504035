//! Tests of the hooks a server runs before a seal.

use super::*;
use disk::MemoryDisk;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DISK_BYTES: usize = 1 << 20;

struct Scene {
    directory: tempfile::TempDir,
    hooks: Hooks,
    disk: Arc<dyn BlockIo>,
}

impl Scene {
    fn new(scripts: &[(&str, &str)]) -> Self {
        Self::with_timeout(scripts, Duration::from_secs(60))
    }

    fn with_timeout(scripts: &[(&str, &str)], timeout: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, script) in scripts {
            let path = directory.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            set_mode(&path, 0o755);
        }
        let hooks = Hooks::new(directory.path().to_owned(), timeout);
        let size = model::DiskSize::new(DISK_BYTES as u64).unwrap();
        Self { directory, hooks, disk: Arc::new(MemoryDisk::writable(size)) }
    }

    fn run(&self, names: &[&str]) -> Result<Vec<HookReport>, HookError> {
        self.hooks.run_on(&self.disk, &subject(), &names.iter().map(name).collect::<Vec<_>>(), &|| false)
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.disk.read_at(offset, &mut bytes).unwrap();
        bytes
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn name(text: &&str) -> Name {
    Name::new(text).unwrap()
}

fn subject() -> Subject {
    Subject { vdisk: name(&"win11"), number: VersionNumber(3) }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes with a real client; a missing one fails with what to install.
const QEMU_IO: &str = "command -v qemu-io >/dev/null || { echo 'apt-get install qemu-utils'; exit 9; }; \
                       qemu-io -f raw -c";

#[test]
fn a_program_changes_the_copy_over_nbd() {
    let scene = Scene::new(&[(
        "mark",
        &format!(
            "{QEMU_IO} 'write -P 0x5a 70000 4096' \"$HEADWATER_NBD_URI\" && echo marked $HEADWATER_VDISK $HEADWATER_VERSION"
        ),
    )]);
    let reports = scene.run(&["mark"]).unwrap();
    assert_eq!(reports[0].lines.last().map(String::as_str), Some("marked win11 3"));
    assert_eq!(reports[0].touched_chunks, 1);
    assert_eq!(scene.read(70_000, 4096), [0x5a; 4096]);
}

#[test]
fn hooks_run_in_order_and_stop_at_the_first_error() {
    let write = |value: &str| format!("{QEMU_IO} 'write -P {value} 0 512' \"$HEADWATER_NBD_URI\" >&2");
    let (one, two) = (write("1"), write("2"));
    let scene =
        Scene::new(&[("one", &one), ("two", &two), ("three", "echo no luck; echo at all >&2; exit 3")]);
    scene.run(&["one", "two"]).unwrap();
    assert_eq!(scene.read(0, 512), [2; 512]);
    let error = scene.run(&["one", "three", "two"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "hook three failed with exit status: 3\n  | no luck\n  | at all\n\
         hint: nothing was changed; `headwater hook test` runs it on a copy without sealing"
    );
    assert_eq!(scene.read(0, 512), [1; 512], "the third of them was not run");
}

#[test]
fn a_time_out_kills_the_whole_group() {
    let script = "sleep 1000 & echo $! > \"$0.pid\"; echo started; wait";
    let scene = Scene::with_timeout(&[("slow", script)], Duration::from_millis(600));
    let error = scene.run(&["slow"]).unwrap_err();
    assert!(
        matches!(&error, HookError::TimedOut { output, .. } if output.to_string() == "  | started\n"),
        "{error}"
    );
    assert!(is_gone(&scene.path("slow.pid")));
}

#[test]
fn what_a_program_leaves_behind_is_killed() {
    let scene = Scene::new(&[("leaver", "sleep 1000 & echo $! > \"$0.pid\"; exit 0")]);
    scene.run(&["leaver"]).unwrap();
    assert!(is_gone(&scene.path("leaver.pid")));
}

#[test]
fn who_escapes_the_group_neither_holds_the_seal_up_nor_writes() {
    let script = "setsid sleep 1000 & echo $! > \"$0.pid\"; echo done";
    let scene = Scene::new(&[("escape", script)]);
    let reports = scene.run(&["escape"]).unwrap();
    assert_eq!(reports[0].lines, ["done"]);
    let pid = pid_in(&scene.path("escape.pid"));
    // It may be killed before setsid has made it a group of its own.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[test]
fn a_cancelled_seal_ends_its_hook() {
    let scene = Scene::new(&[("slow", "echo here > \"$0.here\"; sleep 1000")]);
    let here = scene.path("slow.here");
    let error = scene.hooks.run_on(&scene.disk, &subject(), &[name(&"slow")], &|| here.exists());
    assert!(matches!(error, Err(HookError::Cancelled { .. })));
    let error = scene.hooks.run_on(&scene.disk, &subject(), &[name(&"slow")], &|| true);
    assert!(matches!(error, Err(HookError::Cancelled { .. })));
}

#[test]
fn a_program_that_never_stops_talking_is_bounded() {
    let scene = Scene::with_timeout(&[("loud", "exec yes talking")], Duration::from_millis(500));
    let error = scene.run(&["loud"]).unwrap_err().to_string();
    assert!(error.len() < 10_000 && error.contains("| talking"), "{error}");
}

#[test]
fn the_servers_environment_stays_with_the_server() {
    let scene = Scene::new(&[("env", "env")]);
    let lines = scene.run(&["env"]).unwrap().remove(0).lines;
    let known = ["PATH=", "TMPDIR=", "HOME=", "LC_ALL=", "HEADWATER_", "PWD=", "OLDPWD=", "SHLVL=", "_="];
    for line in lines {
        assert!(known.iter().any(|known| line.starts_with(known)), "{line}");
    }
}

#[test]
fn a_program_that_others_could_change_is_refused() {
    let scene = Scene::new(&[("ok", "exit 0"), ("group", "exit 0"), ("data", "exit 0")]);
    set_mode(&scene.path("group"), 0o775);
    set_mode(&scene.path("data"), 0o644);
    std::os::unix::fs::symlink(scene.path("ok"), scene.path("link")).unwrap();
    std::fs::write(scene.path("README"), "not a hook").unwrap();
    let refused = |hook: &str| scene.run(&[hook]).unwrap_err().to_string();
    assert!(refused("group").contains("hint: `chmod go-w"), "{}", refused("group"));
    assert!(refused("data").contains("is not executable"));
    assert!(refused("link").contains("is not a regular file"));
    assert!(refused("nothing").contains("there is no hook nothing\nhint:"));
    scene.run(&["ok"]).unwrap();
    let listed = scene.hooks.list();
    let runnable: Vec<&str> =
        listed.iter().filter(|hook| hook.refused.is_none()).map(|hook| hook.name.as_str()).collect();
    assert_eq!((listed.len(), runnable), (5, vec!["linux-clean", "ok"]));
    set_mode(scene.directory.path(), 0o777);
    assert!(refused("ok").contains("others may write to"));
}

#[test]
fn the_built_in_hook_says_why_it_cannot() {
    let error = Scene::new(&[]).run(&["linux-clean"]).unwrap_err().to_string();
    assert!(error.starts_with("hook linux-clean failed: no root file system found"), "{error}");
}

#[test]
fn too_many_hooks_are_a_mistake() {
    let error = Scene::new(&[]).run(&["linux-clean"; 17]).unwrap_err();
    assert!(matches!(error, HookError::TooMany(17)));
}

#[test]
fn the_built_in_hook_writes_into_the_copy() {
    let scene = Scene { disk: Arc::new(linux_disk()), ..Scene::new(&[]) };
    let reports = scene.run(&["linux-clean"]).unwrap();
    assert_eq!(reports[0].lines, ["emptied /etc/machine-id", "removed /etc/ssh/ssh_host_rsa_key"]);
    assert!(reports[0].touched_chunks > 0);
    let again = scene.run(&["linux-clean"]).unwrap();
    assert_eq!(again[0].lines, ["the image has no identity to take out"]);
    assert_eq!(again[0].touched_chunks, 0);
}

/// A disk with a small root file system on it.
fn linux_disk() -> MemoryDisk {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in
        [("etc/machine-id", "0123456789abcdef"), ("etc/ssh/ssh_host_rsa_key", "secret"), ("usr/lib/x", "")]
    {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(8 << 20).unwrap();
    let made = std::process::Command::new("/sbin/mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .args([root.path(), file.path()])
        .status()
        .expect("hint: apt-get install e2fsprogs");
    assert!(made.success());
    let bytes = std::fs::read(file.path()).unwrap();
    let disk = MemoryDisk::writable(model::DiskSize::new(bytes.len() as u64).unwrap());
    disk.write_at(0, &bytes).unwrap();
    disk
}

fn pid_in(file: &Path) -> rustix::process::Pid {
    let text = std::fs::read_to_string(file).unwrap();
    rustix::process::Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

/// Whether the process of the pid in a file has ended; it was killed, and ends soon.
fn is_gone(file: &Path) -> bool {
    let pid = pid_in(file);
    for _ in 0..500 {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
