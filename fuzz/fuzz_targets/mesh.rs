//! Whatever a peer sends is survived, waits within bounds, and is the same when it is sent on.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| protocol::mesh::exercise::exercise(data));
