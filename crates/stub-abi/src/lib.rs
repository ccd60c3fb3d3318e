//! The memory layout that the stub and its keeper share.
#![forbid(unsafe_code)]
