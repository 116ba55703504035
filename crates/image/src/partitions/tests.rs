//! Tests of `partitions`.

use super::*;
use crate::test_image::{disk, image};
use proptest::prelude::*;

#[test]
fn a_gpt_is_read_with_its_identities() {
    let script = "label: gpt\n\
        start=1MiB, size=4MiB, uuid=01234567-89AB-CDEF-0123-456789ABCDEF\n\
        start=8MiB, size=2MiB, uuid=11111111-2222-3333-4444-555555555555\n";
    let found = find_partitions(&image(disk(16, script, &[])));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].part_uuid.as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
    assert_eq!((found[0].number, found[0].start, found[0].len), (Some(1), 1 << 20, 4 << 20));
    assert_eq!((found[1].number, found[1].start, found[1].len), (Some(2), 8 << 20, 2 << 20));
}

#[test]
fn the_backup_table_serves_where_the_first_is_overwritten() {
    let mut bytes = disk(16, "label: gpt\nstart=1MiB, size=4MiB\n", &[]);
    bytes[512..1024].fill(0);
    assert_eq!(find_partitions(&image(bytes))[0].start, 1 << 20);
}

#[test]
fn an_mbr_is_read_with_its_logical_drives() {
    let script = "label: dos\nlabel-id: 0xabcd1234\n\
        start=1MiB, size=2MiB\nstart=4MiB, size=8MiB, type=5\nstart=5MiB, size=1MiB\nstart=7MiB, size=1MiB\n";
    let found = find_partitions(&image(disk(16, script, &[])));
    let numbers: Vec<_> = found.iter().map(|partition| partition.number.unwrap()).collect();
    assert_eq!(numbers, [1, 5, 6]);
    assert_eq!(found[0].part_uuid.as_deref(), Some("abcd1234-01"));
    assert_eq!((found[1].start, found[2].start), (5 << 20, 7 << 20));
}

#[test]
fn a_disk_without_a_table_is_one_partition() {
    let whole = Partition { number: None, part_uuid: None, start: 0, len: 1 << 20 };
    assert_eq!(find_partitions(&image(vec![0; 1 << 20])), [whole]);
}

#[test]
fn a_header_that_claims_four_billion_entries_is_not_believed() {
    let mut bytes = disk(16, "label: gpt\nstart=1MiB, size=4MiB\n", &[]);
    for header in [512, (16 << 20) - 512] {
        bytes[header + 80..header + 84].fill(0xff);
    }
    assert_eq!(find_partitions(&image(bytes)).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_first_sectors_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 4096), keep_magic: bool) {
        let mut bytes = noise;
        if keep_magic {
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
            bytes[512..520].copy_from_slice(b"EFI PART");
            bytes[524..528].copy_from_slice(&92u32.to_le_bytes());
            for entry in [446, 462, 478, 494] {
                bytes[entry] = 0x80;
            }
        }
        let size = bytes.len() as u64;
        for partition in find_partitions(&image(bytes)) {
            prop_assert!(partition.start + partition.len <= size);
        }
    }
}
