//! One row per system call: what it takes, where it runs, what else it does.
#![forbid(unsafe_code)]
