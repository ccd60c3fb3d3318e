//! The daemon and its agents in one binary.
#![forbid(unsafe_code)]

fn main() {}
