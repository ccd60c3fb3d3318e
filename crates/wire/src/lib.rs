//! Messages between nodes.
#![forbid(unsafe_code)]
