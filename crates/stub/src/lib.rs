//! The blob that runs inside other processes, its loader, and the keeper's end of the memory it shares.
mod blob;
mod shared;

pub use blob::{Blob, Entries};
pub use shared::{Look, Post, Shared};
