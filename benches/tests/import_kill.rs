//! The short form of the servers' part of `cargo xtask show import-kill`.

use headwater_benches::import_kill::{Options, run};
use headwater_benches::real_server::beside_this_program;

const IMAGE_BYTES: usize = 96 << 20;

#[test]
fn servers_killed_in_mid_import_list_no_half_vdisk_and_give_all_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.raw");
    // All different chunks: their words are numbered.
    let bytes: Vec<u8> = (1..=IMAGE_BYTES as u64 / 8).flat_map(u64::to_le_bytes).collect();
    std::fs::write(&image, bytes).unwrap();
    let options = Options {
        program: beside_this_program().unwrap(),
        directory: directory.path().join("server"),
        image,
        kills: 8,
        seed: 20_261_123,
    };
    let tally = run(&options, |_, _| {}).unwrap();
    assert!(tally.hit > 0, "no kill came in time: {tally:?}");
}
