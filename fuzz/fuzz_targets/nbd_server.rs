//! What any NBD client may send: `cargo +nightly fuzz run nbd_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protocol::nbd::exercise::exercise_server(bytes));
