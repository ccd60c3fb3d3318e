//! Lines of tools and agents on the unix sockets.
#![no_main]
#![forbid(unsafe_code)]

use control::{AgentRequest, Event, KeeperStatus, Request, WardenStatus};
use serde::{Serialize, de::DeserializeOwned};

fn check<T: Serialize + DeserializeOwned>(line: &[u8]) {
    if let Ok(word) = serde_json::from_slice::<T>(line) {
        let again = serde_json::to_vec(&word).expect("words can be said");
        assert!(!again.contains(&b'\n'), "one line");
        serde_json::from_slice::<T>(&again).expect("our own words");
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for line in node::fuzz::lines(bytes) {
        check::<Request>(&line);
        check::<AgentRequest>(&line);
        check::<Event>(&line);
        check::<KeeperStatus>(&line);
        check::<WardenStatus>(&line);
    }
});
