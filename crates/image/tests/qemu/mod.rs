//! Calls qemu-img, the judge of every image here.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `qemu-img` with these arguments; fails the test where it is not installed.
pub(crate) fn qemu_img(arguments: &[&str]) -> Output {
    let output = Command::new("qemu-img").args(arguments).output();
    output.expect("these tests need qemu-img: apt-get install qemu-utils")
}

/// Runs `qemu-img` and fails the test where it is not content.
pub(crate) fn qemu_img_ok(arguments: &[&str]) {
    let output = qemu_img(arguments);
    assert!(output.status.success(), "qemu-img {arguments:?}: {output:?}");
}

/// A path as qemu-img's argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// A disk with data, holes and zeros: `sectors` of 512 bytes, the same for the same seed.
pub(crate) fn disk(seed: u64, sectors: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = vec![0; sectors * 512];
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + (next() % 400_000) as usize + 1).min(bytes.len());
        match next() % 3 {
            0 => {}
            1 => bytes[at..end].fill(next() as u8),
            _ => bytes[at..end].iter_mut().for_each(|byte| *byte = next() as u8),
        }
        at = end;
    }
    bytes
}
