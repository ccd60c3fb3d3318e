//! `omd.toml`: a mistake is named in one line.
#![no_main]
#![forbid(unsafe_code)]

use node::config::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Config::parse(text) {
        Ok(config) => assert!(config.peers.len() <= model::limits::PEERS_MAX),
        Err(error) => assert!(!error.contains('\n') && !error.is_empty(), "{error:?}"),
    }
});
