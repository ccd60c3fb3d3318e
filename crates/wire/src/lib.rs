//! Messages between nodes.
#![forbid(unsafe_code)]

pub mod peer;
