//! Tests of the copy a hook works in.

use super::*;
use image::ImageReader;
use model::VersionNumber;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use store::ImportOptions;

const SIZE: usize = 3 << 20;

struct Scene {
    directory: tempfile::TempDir,
    store: Arc<Store>,
    base: Root,
    bytes: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..SIZE).map(|at| (at / 4096 % 251) as u8).collect();
        let image = directory.path().join("image.raw");
        std::fs::write(&image, &bytes).unwrap();
        std::fs::create_dir(directory.path().join("hooks")).unwrap();
        let store = Arc::new(Store::open(&directory.path().join("store")).unwrap());
        let image = image::open(&image).unwrap();
        let base = store.import(image.as_ref(), &ImportOptions::default(), &Quiet).unwrap().root;
        store.claim(&base).unwrap();
        Self { directory, store, base, bytes }
    }

    fn hooks(&self, script: &str) -> Hooks {
        let path = self.directory.path().join("hooks/own");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Hooks::new(self.directory.path().join("hooks"), Duration::from_secs(60))
    }

    fn run(&self, script: &str) -> Result<Hooked, HookError> {
        let own = Name::new("own").unwrap();
        self.hooks(script).run(&self.store, &subject(), &self.base, &[own], &|| false)
    }

    fn content(&self, root: &Root) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        self.store.version(root).unwrap().read_at(0, &mut bytes).unwrap();
        bytes
    }

    /// Asserts that the store is as it was before any hook ran.
    fn is_untouched(&self) {
        assert_eq!(self.store.roots(), [self.base]);
        assert_eq!(self.store.unclaimed(), []);
        assert_eq!(self.store.drafts(), []);
        assert_eq!(self.content(&self.base), self.bytes);
    }
}

fn subject() -> Subject {
    Subject { vdisk: Name::new("win11").unwrap(), number: VersionNumber(3) }
}

fn qemu_io(commands: &str) -> String {
    format!("qemu-io -f raw {commands} \"$HEADWATER_NBD_URI\" || exit 9 # apt-get install qemu-utils")
}

#[test]
fn what_is_sealed_is_what_the_hook_left() {
    let scene = Scene::new();
    let commands = "-c 'write -P 0xaa 65000 2000' -c 'discard 1M 64k' -c 'write -z 2M 4k'";
    let hooked = scene.run(&qemu_io(commands)).unwrap();
    let mut expected = scene.bytes.clone();
    expected[65_000..67_000].fill(0xaa);
    expected[1 << 20..(1 << 20) + 65_536].fill(0);
    expected[2 << 20..(2 << 20) + 4096].fill(0);
    assert_eq!((hooked.changed_chunks, hooked.reports[0].touched_chunks), (4, 4));
    let root = hooked.root;
    assert!(scene.store.delete(&root).is_err(), "the copy keeps its root");
    scene.store.claim(&root).unwrap();
    hooked.end();
    assert_eq!(scene.store.drafts(), []);
    assert!(scene.content(&root) == expected, "the sealed content is not what the hook left");
    assert!(scene.content(&scene.base) == scene.bytes, "the checkpoint has changed");
}

#[test]
fn a_failing_hook_changes_nothing() {
    let scene = Scene::new();
    let error = scene.run(&format!("{}\nexit 1", qemu_io("-c 'write 0 1M'"))).err().unwrap();
    assert!(matches!(error, HookError::Failed { .. }), "{error}");
    scene.is_untouched();
}

#[test]
fn a_hook_that_changes_nothing_leaves_the_checkpoint() {
    let scene = Scene::new();
    let hooked = scene.run(&qemu_io("-c 'read 0 1M'")).unwrap();
    assert_eq!((hooked.root, hooked.changed_chunks), (scene.base, 0));
    hooked.end();
    scene.is_untouched();
}

#[test]
fn a_test_throws_the_copy_away() {
    let scene = Scene::new();
    let own = Name::new("own").unwrap();
    let hooks = scene.hooks(&qemu_io("-c 'write 0 1M'"));
    let reports = hooks.test(&scene.store, &subject(), &scene.base, &[own], &|| false).unwrap();
    assert_eq!(reports[0].touched_chunks, 16);
    scene.is_untouched();
}

#[test]
fn hooks_of_one_version_run_one_after_the_other() {
    let scene = Scene::new();
    let first = scene.run("exit 0").unwrap();
    let error = scene.run("exit 0").err().unwrap();
    assert!(error.to_string().contains("hooks run for version 3 of vDisk win11 already\nhint:"), "{error}");
    first.end();
    scene.run("exit 0").unwrap().end();
}

#[test]
fn what_a_crash_left_of_a_copy_is_deleted_and_drafts_stay() {
    let scene = Scene::new();
    for name in ["win11.3", "win11.3.hook"] {
        scene.store.create_draft(&DraftName::new(name).unwrap(), &scene.base).unwrap();
    }
    clear_away(&scene.store);
    let left: Vec<String> = scene.store.drafts().iter().map(|draft| draft.name.to_string()).collect();
    assert_eq!(left, ["win11.3"]);
}
