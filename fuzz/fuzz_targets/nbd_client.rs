//! What any NBD server may send to an agent: `cargo +nightly fuzz run nbd_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protocol::nbd::exercise::exercise_client(bytes));
