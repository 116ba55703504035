//! Tests of `linux-clean` on real ext4 file systems.

use super::*;
use crate::test_image::{disk, ext4, image, tree};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const UUID: &str = "b6d7a3e0-0000-4000-8000-00000000c1ea";
const SECRET: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY----- not for every device";

/// A root file system's files with the whole identity.
fn identity() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("etc/os-release", b"ID=debian"),
        ("etc/machine-id", b"0123456789abcdef0123456789abcdef\n"),
        ("etc/ssh/ssh_host_rsa_key", SECRET),
        ("etc/ssh/ssh_host_rsa_key.pub", b"ssh-rsa AAAA"),
        ("etc/ssh/ssh_host_ed25519_key", SECRET),
        ("etc/ssh/ssh_host_ed25519_key.pub", b"ssh-ed25519 AAAA"),
        ("etc/ssh/sshd_config", b"PermitRootLogin no"),
        ("usr/lib/os-release", b"ID=debian"),
        ("var/lib/dbus/machine-id", b"0123456789abcdef0123456789abcdef\n"),
        ("var/lib/systemd/random-seed", b"seed seed seed seed"),
        ("var/lib/systemd/credential.secret", SECRET),
        ("var/lib/systemd/timers/stamp", b""),
    ]
}

/// An ext4 file system with `files`, made with these options of mke2fs.
fn file_system(files: &[(&str, &[u8])], mib: u64, options: &[&str]) -> Vec<u8> {
    let (root, file) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    tree(root.path(), files);
    file.as_file().set_len(mib << 20).unwrap();
    let (root, path) = (root.path().to_str().unwrap(), file.path().to_str().unwrap());
    let arguments = [&["-q", "-t", "ext4", "-U", UUID, "-d", root], options, &[path]].concat();
    e2fsprogs("mke2fs", &arguments);
    std::fs::read(file.path()).unwrap()
}

/// Runs one of the tools of e2fsprogs; answers what it printed.
fn e2fsprogs(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; hint: apt-get install e2fsprogs"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}\n{text}{errors}");
    text
}

fn run(bytes: &[u8]) -> Result<Cleaning, CleanError> {
    clean_linux(&image(bytes.to_vec()))
}

/// The image with the changes written.
fn applied(bytes: &[u8], cleaning: &Cleaning) -> Vec<u8> {
    let mut after = bytes.to_vec();
    for change in &cleaning.changes {
        after[change.offset as usize..][..change.bytes.len()].copy_from_slice(&change.bytes);
    }
    after
}

/// What e2fsprogs says about a file system: it is sound, and these are its files.
fn checked_files(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let (dump, file) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), bytes).unwrap();
    let path = file.path().to_str().unwrap();
    e2fsprogs("e2fsck", &["-fn", path]);
    e2fsprogs("debugfs", &["-R", &format!("rdump / {}", dump.path().display()), path]);
    let mut files = BTreeMap::new();
    collect(dump.path(), dump.path(), &mut files);
    files
}

fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let content = match path.is_symlink() {
                true => std::fs::read_link(&path).unwrap().to_str().unwrap().as_bytes().to_vec(),
                false => std::fs::read(&path).unwrap(),
            };
            files.insert(name, content);
        }
    }
}

/// Cleans a file system and holds the result against what e2fsprogs sees: the identity is gone,
/// everything else is as before.
fn cleaned(bytes: &[u8]) -> Vec<u8> {
    let mut expected = checked_files(bytes);
    let cleaning = run(bytes).unwrap();
    let after = applied(bytes, &cleaning);
    for file in &cleaning.files {
        let name = file.path.trim_start_matches('/').to_owned();
        match file.what {
            Cleaned::Emptied => expected.insert(name, Vec::new()),
            Cleaned::Removed => expected.remove(&name),
        };
    }
    let found = checked_files(&after);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(found == expected, "a file that stays has other bytes");
    assert_eq!(found.get("etc/machine-id").map(Vec::len), Some(0));
    assert!(!found.keys().any(|name| name.contains("ssh_host_") || name.contains("random-seed")));
    let leaked = after.chunks(512).any(|sector| sector.starts_with(SECRET));
    assert!(!leaked, "a secret is still in a freed block");
    after
}

#[test]
fn the_identity_goes_from_every_kind_of_ext4() {
    let features = [
        "",
        "^metadata_csum",
        "metadata_csum,64bit",
        "^64bit",
        "^flex_bg",
        "^dir_index",
        "^has_journal",
        "metadata_csum_seed",
        "uninit_bg,^metadata_csum",
        "orphan_file",
    ];
    for block_size in ["1024", "4096"] {
        for feature in features {
            let bytes = file_system(&identity(), 24, &["-b", block_size, "-O", feature]);
            eprintln!("blocks of {block_size} bytes, {feature}");
            cleaned(&bytes);
        }
    }
}

#[test]
fn a_second_run_changes_nothing() {
    let after = cleaned(&file_system(&identity(), 16, &[]));
    assert_eq!(run(&after).unwrap(), Cleaning::default());
}

#[test]
fn only_blocks_that_change_are_written() {
    let cleaning = run(&file_system(&identity(), 64, &["-b", "4096"])).unwrap();
    let bytes: usize = cleaning.changes.iter().map(|change| change.bytes.len()).sum();
    assert!(bytes < 1 << 20, "{bytes} bytes for eight files");
    assert_eq!(cleaning.files.len(), 8, "{:?}", cleaning.files);
}

#[test]
fn large_indexed_directories_lose_only_the_keys() {
    let root = tempfile::tempdir().unwrap();
    let many: Vec<String> = (0..1200).map(|n| format!("etc/ssh/some_other_long_file_name_{n}")).collect();
    let mut files = identity();
    files.extend(many.iter().map(|name| (name.as_str(), &b""[..])));
    tree(root.path(), &files);
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(24 << 20).unwrap();
    let (root, path) = (root.path().to_str().unwrap(), file.path().to_str().unwrap());
    for block_size in ["1024", "4096"] {
        e2fsprogs("mke2fs", &["-q", "-F", "-t", "ext4", "-b", block_size, "-N", "4000", "-d", root, path]);
        // Only fsck turns the linear directory of mke2fs into an indexed one; it exits with 1.
        let _ = Command::new("/sbin/e2fsck").args(["-fyD", path]).output().unwrap();
        let shown = e2fsprogs("debugfs", &["-R", "htree_dump /etc/ssh", path]);
        assert!(shown.contains("Root node dump"), "{shown}");
        cleaned(&std::fs::read(path).unwrap());
    }
}

#[test]
fn a_key_in_many_pieces_is_removed_with_all_of_them() {
    let filler = vec![b'f'; 1024];
    let names: Vec<String> = (0..3000).map(|n| format!("fill/{n}")).collect();
    let mut files = identity();
    files.retain(|(name, _)| *name != "etc/ssh/ssh_host_rsa_key");
    files.extend(names.iter().map(|name| (name.as_str(), filler.as_slice())));
    let bytes = file_system(&files, 8, &["-b", "1024", "-N", "4000", "-m", "0", "-O", "^has_journal"]);
    let (file, key) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), bytes).unwrap();
    std::fs::write(key.path(), [b"key", [b'k'; 1021].as_slice()].concat().repeat(700)).unwrap();
    let junk = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(junk.path(), vec![b'j'; 700 << 10]).unwrap();
    let path = file.path().to_str().unwrap();
    let holes: String = names.iter().step_by(2).map(|name| format!("rm {name}\n")).collect();
    let fill: String = (0..4).map(|n| format!("write {} junk{n}\n", junk.path().display())).collect();
    let script = tempfile::NamedTempFile::new().unwrap();
    // The free room at the end goes to junk, so that the key lies in the holes.
    std::fs::write(
        script.path(),
        format!(
            "{fill}{holes}write {} etc/ssh/ssh_host_rsa_key\nrm junk0\nrm junk1\nrm junk2\nrm junk3\n",
            key.path().display()
        ),
    )
    .unwrap();
    e2fsprogs("debugfs", &["-w", "-f", script.path().to_str().unwrap(), path]);
    let extents = e2fsprogs("debugfs", &["-R", "stat etc/ssh/ssh_host_rsa_key", path]);
    assert!(extents.contains("ETB0"), "the extents fill a block of their own: {extents}");
    let bytes = std::fs::read(path).unwrap();
    let cleaning = run(&bytes).unwrap();
    let after = applied(&bytes, &cleaning);
    checked_files(&after);
    let blocks = |bytes: &[u8]| bytes.chunks(1024).filter(|block| block.starts_with(b"key")).count();
    assert_eq!((blocks(&bytes), blocks(&after)), (700, 0));
}

#[test]
fn the_root_is_found_behind_partition_tables() {
    let root = file_system(&identity(), 16, &[]);
    for table in [
        "label: gpt\nstart=1MiB, size=2MiB\nstart=4MiB, size=16MiB\n",
        "label: dos\nstart=4MiB, size=16MiB\n",
    ] {
        let bytes = disk(24, table, &[(4, &root)]);
        let cleaning = run(&bytes).unwrap();
        assert_eq!(cleaning.files.len(), 8);
        let outside = |change: &Change| change.offset < 4 << 20 || change.offset >= 20 << 20;
        assert!(!cleaning.changes.iter().any(outside));
        checked_files(&applied(&bytes, &cleaning)[4 << 20..20 << 20]);
    }
}

#[test]
fn links_are_not_followed() {
    let mut files = identity();
    files.retain(|(name, _)| !matches!(*name, "var/lib/dbus/machine-id" | "etc/machine-id"));
    files.push(("var/lib/dbus/machine-id", b"->/etc/os-release"));
    files.push(("etc/machine-id", b"->/etc/ssh/sshd_config"));
    let bytes = file_system(&files, 16, &[]);
    let cleaning = run(&bytes).unwrap();
    let after = checked_files(&applied(&bytes, &cleaning));
    assert_eq!(after["etc/ssh/sshd_config"], b"PermitRootLogin no");
    assert_eq!(after["var/lib/dbus/machine-id"], b"/etc/os-release");
    assert_eq!(after["etc/os-release"], b"ID=debian");
}

#[test]
fn an_image_without_identity_needs_no_changes() {
    let bytes = file_system(&[("etc/os-release", b"x"), ("usr/lib/x", b"x")], 16, &[]);
    assert_eq!(run(&bytes).unwrap(), Cleaning::default());
}

/// The image with one command of debugfs carried out.
fn with_debugfs(bytes: &[u8], command: &str) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    e2fsprogs("debugfs", &["-w", "-R", command, file.path().to_str().unwrap()]);
    std::fs::read(file.path()).unwrap()
}

#[test]
fn a_machine_that_was_not_shut_down_is_refused() {
    let bytes = file_system(&identity(), 16, &[]);
    for command in ["feature needs_recovery", "ssv state 0", "ssv state 3", "ssv last_orphan 12"] {
        let error = run(&with_debugfs(&bytes, command)).unwrap_err();
        assert!(matches!(error, CleanError::NotClean(_)), "{command}: {error}");
        assert!(error.to_string().contains("hint: start the machine and shut it down cleanly"));
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let bytes = file_system(&identity(), 16, &["-O", "quota"]);
    assert!(run(&bytes).is_err_and(|error| matches!(error, CleanError::Unsupported(_))));
    for feature in ["bigalloc", "inline_data", "casefold", "ea_inode", "large_dir", "^extent,^64bit"] {
        assert!(run(&file_system(&identity(), 64, &["-O", feature])).is_err(), "{feature}");
    }
    let huge = vec![b'x'; 2 << 20];
    let mut files = identity();
    files.push(("etc/ssh/ssh_host_huge_key", &huge));
    let error = run(&file_system(&files, 16, &[])).unwrap_err().to_string();
    assert!(error.contains("/etc/ssh/ssh_host_huge_key has 2097152 bytes"), "{error}");
}

#[test]
fn a_disk_without_ext4_says_what_is_there_instead() {
    let mut luks = vec![0; 2 << 20];
    luks[..6].copy_from_slice(b"LUKS\xba\xbe");
    let error = run(&luks).unwrap_err().to_string();
    assert!(error.contains("LUKS") && error.contains("hint: linux-clean needs a root on ext4"), "{error}");
}

fn small_image() -> &'static [u8] {
    static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    IMAGE.get_or_init(|| {
        let root = tempfile::tempdir().unwrap();
        tree(root.path(), &identity());
        ext4(root.path(), 16, UUID)
    })
}

/// The sectors that the hook looks at: the only ones whose damage it can see.
fn sectors_read(bytes: &[u8]) -> Vec<u64> {
    struct Recording(Arc<dyn ImageReader>, std::sync::Mutex<std::collections::BTreeSet<u64>>);
    impl ImageReader for Recording {
        fn size_bytes(&self) -> u64 {
            self.0.size_bytes()
        }
        fn run_at(&self, offset: u64, limit: u64) -> Result<crate::Run, crate::ImageError> {
            self.0.run_at(offset, limit)
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), crate::ImageError> {
            let last = offset + buffer.len() as u64 / 512;
            self.1.lock().unwrap().extend(offset / 512..=last / 512);
            self.0.read_at(offset, buffer)
        }
    }
    let recording = Arc::new(Recording(image(bytes.to_vec()), Default::default()));
    let reader: Arc<dyn ImageReader> = Arc::clone(&recording) as _;
    clean_linux(&reader).unwrap();
    let sectors = recording.1.lock().unwrap();
    sectors.iter().copied().filter(|sector| sector * 512 < bytes.len() as u64).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any answer but a hang, an allocation without bound or a dead process is right.
    #[test]
    fn damaged_structures_end_in_a_result(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..512, any::<u8>()), 1..60),
        checksums in any::<bool>(),
    ) {
        static SECTORS: std::sync::OnceLock<Vec<u64>> = std::sync::OnceLock::new();
        static PLAIN: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let plain = PLAIN.get_or_init(|| file_system(&identity(), 16, &["-O", "^metadata_csum"]));
        let sectors = SECTORS.get_or_init(|| sectors_read(plain));
        let mut bytes = if checksums { small_image().to_vec() } else { plain.clone() };
        for (sector, offset, value) in damage {
            let at = sectors[sector.index(sectors.len())] as usize * 512 + offset;
            bytes[at] = value;
        }
        drop(run(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn random_trees_keep_everything_else(
        names in proptest::collection::btree_map("(etc/ssh|var/lib/systemd|etc|srv/[a-z]{1,20})/x[a-z]{1,60}", proptest::collection::vec(any::<u8>(), 0..9000), 0..60),
        keys in proptest::collection::btree_set("etc/ssh/ssh_host_[a-z0-9]{1,40}_key(\\.pub)?", 0..40),
        small_blocks in any::<bool>(),
        checksums in any::<bool>(),
    ) {
        let mut files = identity();
        files.extend(names.iter().map(|(name, content)| (name.as_str(), content.as_slice())));
        files.extend(keys.iter().map(|name| (name.as_str(), SECRET)));
        let block_size = if small_blocks { "1024" } else { "4096" };
        let feature = if checksums { "metadata_csum" } else { "^metadata_csum" };
        cleaned(&file_system(&files, 24, &["-b", block_size, "-O", feature]));
    }
}

#[test]
fn a_var_of_its_own_and_the_seed_on_the_efi_partition_are_cleaned_too() {
    let of_root: Vec<_> = identity().into_iter().filter(|(name, _)| !name.starts_with("var/")).collect();
    let var: Vec<(&str, &[u8])> = vec![
        ("lib/systemd/random-seed", SECRET),
        ("lib/systemd/credential.secret", SECRET),
        ("lib/systemd/timers/stamp", b"stamp"),
        ("lib/dbus/machine-id", SECRET),
        ("log/syslog", b"log"),
    ];
    let (root, var) = (file_system(&of_root, 8, &[]), file_system(&var, 8, &[]));
    let esp = crate::test_image::fat(8, &[("loader/random-seed", SECRET), ("EFI/BOOT/BOOTX64.EFI", b"MZ")]);
    let table = "label: gpt\nstart=1MiB, size=8MiB, type=U\nstart=9MiB, size=8MiB\nstart=17MiB, size=8MiB\n";
    let bytes = disk(26, table, &[(1, &esp), (9, &root), (17, &var)]);
    let cleaning = run(&bytes).unwrap();
    let shown: Vec<String> = cleaning.files.iter().map(ToString::to_string).collect();
    assert!(shown.contains(&"removed /loader/random-seed of partition 1".to_owned()), "{shown:?}");
    assert!(shown.contains(&"removed /lib/systemd/random-seed of partition 3".to_owned()), "{shown:?}");
    let after = applied(&bytes, &cleaning);
    let part = |at: usize| &after[at << 20..(at + 8) << 20];
    let names = |at: usize| checked_files(part(at)).into_keys().collect::<Vec<_>>();
    assert_eq!(names(17), ["lib/systemd/timers/stamp", "log/syslog"]);
    assert!(!names(9).iter().any(|name| name.contains("ssh_host_")));
    let fat =
        fatfs::FileSystem::new(std::io::Cursor::new(part(1).to_vec()), fatfs::FsOptions::new()).unwrap();
    assert!(fat.root_dir().open_file("loader/random-seed").is_err());
    assert!(fat.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").is_ok());
    assert!(!after.chunks(512).any(|sector| sector.starts_with(SECRET)), "a secret is still there");
    assert_eq!(run(&after).unwrap(), Cleaning::default(), "a second run changes nothing");
}
