//! Messages between nodes.
#![forbid(unsafe_code)]

mod call;
pub mod peer;
pub mod session;

pub use call::*;
