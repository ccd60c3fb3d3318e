//! What nodes tell each other of their load.
#![no_main]
#![forbid(unsafe_code)]

use wire::balance::{decode, encode};

// What is understood is understood again once it is said again: a number has one form that is sent.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode(bytes) {
        let again = encode(&message).expect("what came in a datagram fits into one");
        assert_eq!(decode(&again).expect("our own words"), message);
    }
});
