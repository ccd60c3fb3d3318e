//! Messages between nodes.
#![forbid(unsafe_code)]

pub mod balance;
mod call;
pub mod peer;
pub mod session;

pub use call::*;
