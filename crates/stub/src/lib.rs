//! The blob that runs inside other processes, and its loader.
mod blob;
pub use blob::{Blob, Entries};
