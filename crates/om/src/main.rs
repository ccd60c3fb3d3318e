//! The command-line tools of the cluster.
#![forbid(unsafe_code)]

fn main() {}
