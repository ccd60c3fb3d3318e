//! Authenticated, encrypted channels between nodes.
#![forbid(unsafe_code)]
