//! The first 24 bytes of a connection: what is accepted has one spelling.
#![no_main]
#![forbid(unsafe_code)]

use net::{PREAMBLE_BYTES, Preamble};

libfuzzer_sys::fuzz_target!(|bytes: [u8; PREAMBLE_BYTES]| {
    if let Ok(preamble) = Preamble::decode(&bytes) {
        assert_eq!(preamble.encode(), bytes);
    }
});
