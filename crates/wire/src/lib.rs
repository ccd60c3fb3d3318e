//! Messages between nodes.
#![forbid(unsafe_code)]

mod call;
pub mod session;

pub use call::*;
