//! Tests of `boot_files`.

use super::*;
use crate::test_image::{disk, ext4, fat, image, tree};
use proptest::prelude::*;

const ROOT_UUID: &str = "0a1b2c3d-1111-2222-3333-444455556666";
const BOOT_UUID: &str = "0a1b2c3d-aaaa-bbbb-cccc-ddddeeeeffff";
const NEW: &str = "6.1.0-37-cloud-amd64";

fn root_files<'a>() -> Vec<(&'a str, &'a [u8])> {
    vec![
        ("etc/os-release", b"ID=debian\n"),
        ("etc/default/grub", b"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet console=ttyS0,115200\"\n"),
        ("lib", b"->usr/lib"),
        (
            "usr/lib/modules/6.1.0-37-cloud-amd64/modules.dep",
            b"kernel/drivers/block/nbd.ko.xz:\n\
              kernel/net/failover.ko:\n\
              kernel/drivers/net/virtio_net.ko: kernel/net/failover.ko\n\
              kernel/fs/xfs.ko:\n",
        ),
        (
            "usr/lib/modules/6.1.0-37-cloud-amd64/modules.alias",
            b"alias virtio:d00000001v* virtio_net\nalias fs-xfs xfs\n",
        ),
        ("usr/lib/modules/6.1.0-37-cloud-amd64/kernel/drivers/block/nbd.ko.xz", b"NBD"),
        ("usr/lib/modules/6.1.0-37-cloud-amd64/kernel/net/failover.ko", b"FAILOVER"),
        ("usr/lib/modules/6.1.0-37-cloud-amd64/kernel/drivers/net/virtio_net.ko", b"VIRTIO"),
        ("usr/lib/modules/6.1.0-37-cloud-amd64/kernel/fs/xfs.ko", b"XFS"),
    ]
}

fn boot_files<'a>() -> Vec<(&'a str, &'a [u8])> {
    vec![
        ("boot/vmlinuz-6.1.0-37-cloud-amd64", b"new kernel"),
        ("boot/initrd.img-6.1.0-37-cloud-amd64", b"new initrd"),
        ("boot/vmlinuz-6.1.0-9-cloud-amd64", b"old kernel"),
        ("boot/initrd.img-6.1.0-9-cloud-amd64", b"old initrd"),
        ("boot/vmlinuz-6.9.0-lonely", b"no initrd beside it"),
    ]
}

fn root_fs(files: &[(&str, &[u8])]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), files);
    ext4(directory.path(), 8, ROOT_UUID)
}

fn complete_fs() -> Vec<u8> {
    root_fs(&[root_files(), boot_files()].concat())
}

fn find(bytes: Vec<u8>) -> Result<BootFiles, BootFilesError> {
    find_boot_files(&image(bytes))
}

#[test]
fn a_debian_like_image_gives_its_newest_kernel_with_an_initrd() {
    let script = "label: gpt\nstart=1MiB, size=8MiB, uuid=01234567-89AB-CDEF-0123-456789ABCDEF\n";
    let found = find(disk(16, script, &[(1, &complete_fs())])).unwrap();
    assert_eq!(found.kernel_version, NEW);
    assert_eq!(found.kernel, b"new kernel");
    assert_eq!(found.initrd, b"new initrd");
    assert_eq!(found.root_spec.to_string(), format!("UUID={ROOT_UUID}"));
    assert_eq!(found.root_spec.partition, Some(1));
    let part_uuid = found.root_spec.part_uuid.as_deref();
    assert_eq!(part_uuid, Some("01234567-89ab-cdef-0123-456789abcdef"));
    assert_eq!(found.args, ["console=ttyS0,115200"]);
}

#[test]
fn modules_come_in_load_order_with_their_aliases() {
    let found = find(complete_fs()).unwrap();
    let names: Vec<&str> = found.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names, ["nbd", "failover", "virtio_net"]);
    assert_eq!(found.modules[0].path, "kernel/drivers/block/nbd.ko.xz");
    assert_eq!(found.modules[0].bytes, b"NBD");
    assert_eq!(found.modules[2].depends, ["failover"]);
    assert_eq!(found.aliases, "alias virtio:d00000001v* virtio_net\n");
}

#[test]
fn a_whole_disk_file_system_has_a_root_without_a_partition() {
    let found = find(complete_fs()).unwrap();
    assert_eq!((found.root_spec.partition, found.root_spec.part_uuid), (None, None));
}

#[test]
fn a_separate_boot_partition_is_found_by_the_fstab() {
    let boot = tempfile::tempdir().unwrap();
    tree(
        boot.path(),
        &[
            ("vmlinuz-6.1.0-37-cloud-amd64", b"kernel there"),
            ("initramfs-6.1.0-37-cloud-amd64.img", b"initrd there"),
        ],
    );
    let boot = ext4(boot.path(), 4, BOOT_UUID);
    let fstab = format!("# comment\nUUID={BOOT_UUID} /boot ext4 defaults 0 2\n");
    let mut files = root_files();
    files.push(("etc/fstab", fstab.as_bytes()));
    let script = "label: dos\nstart=1MiB, size=4MiB\nstart=6MiB, size=8MiB\n";
    let found = find(disk(16, script, &[(1, &boot), (6, &root_fs(&files))])).unwrap();
    assert_eq!(found.kernel, b"kernel there");
    assert_eq!(found.initrd, b"initrd there");
    assert_eq!(found.root_spec.partition, Some(2));
}

#[test]
fn an_entry_of_systemd_boot_on_the_esp_is_followed() {
    let entry = format!(
        "title Linux\nversion {NEW}\nlinux /id/linux\ninitrd /id/initrd\noptions console=tty0 quiet\n"
    );
    let esp = fat(
        4,
        &[
            ("loader/entries/id.conf", entry.as_bytes()),
            ("id/linux", b"esp kernel"),
            ("id/initrd", b"esp initrd"),
        ],
    );
    let script = "label: gpt\nstart=1MiB, size=4MiB, type=U\nstart=6MiB, size=8MiB\n";
    let found = find(disk(16, script, &[(1, &esp), (6, &root_fs(&root_files()))])).unwrap();
    assert_eq!(found.kernel, b"esp kernel");
    assert_eq!(found.args, ["console=tty0"]);
}

#[test]
fn what_is_missing_is_named_with_what_was_looked_for() {
    let no_kernel = find(root_fs(&root_files())).unwrap_err();
    assert!(matches!(no_kernel, BootFilesError::NoKernel { .. }));
    let mut lonely = root_files();
    lonely.push(("boot/vmlinuz-6.9.0-lonely", b"kernel"));
    let no_initrd = find(root_fs(&lonely)).unwrap_err().to_string();
    assert!(no_initrd.contains("initrd.img-6.9.0-lonely"), "{no_initrd}");
    let kernel_only: Vec<_> =
        [boot_files(), vec![("etc/os-release", &b"x"[..]), ("usr/lib/x", &b"x"[..])]].concat();
    let no_nbd = find(root_fs(&kernel_only)).unwrap_err();
    assert_eq!(no_nbd, BootFilesError::NoNbdModule { kernel_version: NEW.to_owned() });
}

#[test]
fn a_disk_without_a_root_says_what_is_there_instead() {
    let mut bytes = vec![0; 2 << 20];
    bytes[..4].copy_from_slice(b"XFSB");
    let error = find(bytes).unwrap_err().to_string();
    assert!(error.contains("xfs"), "{error}");
}

#[test]
fn a_file_system_that_is_cut_off_is_an_error() {
    let mut bytes = complete_fs();
    bytes.truncate(1 << 20);
    assert!(find(bytes).is_err());
}

#[test]
fn a_kernel_reached_through_links_is_read() {
    let mut files = root_files();
    files.push(("usr/share/kernel", b"linked kernel"));
    files.push(("boot/vmlinuz-6.1.0-37-cloud-amd64", b"->/usr/share/kernel"));
    files.push(("boot/initrd.img-6.1.0-37-cloud-amd64", b"initrd"));
    assert_eq!(find(root_fs(&files)).unwrap().kernel, b"linked kernel");
}

/// A damaged copy of a good image: any result but a hang or a dead process is right.
fn damaged(original: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for (position, value) in changes {
        let len = bytes.len();
        bytes[position % len] = *value;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_structures_end_in_a_result(
        changes in proptest::collection::vec((0usize..600_000, any::<u8>()), 1..400)
    ) {
        static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let original = IMAGE.get_or_init(complete_fs);
        drop(find(damaged(original, &changes)));
    }
}
