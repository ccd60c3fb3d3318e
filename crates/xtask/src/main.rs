//! The menu of the workshop: demo, test, check, tidy, bench.
#![forbid(unsafe_code)]

fn main() {}
