//! Messages between nodes.
#![forbid(unsafe_code)]

mod call;

pub use call::*;
