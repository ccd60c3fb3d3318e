//! What daemons and joining machines say to each other.
#![no_main]
#![forbid(unsafe_code)]

use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use wire::peer::{JoinAnswer, JoinRequest, PeerAnswer, PeerRequest, decode, encode};

/// What is understood is understood again once it is said again.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = decode::<T>(bytes) {
        let again = encode(&message).expect("what came in a message fits into one");
        assert_eq!(decode::<T>(&again).expect("our own words"), message);
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 4 {
        0 => check::<PeerRequest>(bytes),
        1 => check::<PeerAnswer>(bytes),
        2 => check::<JoinRequest>(bytes),
        _ => check::<JoinAnswer>(bytes),
    }
});
