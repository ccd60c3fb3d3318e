//! The guest programs in many worlds.
#![forbid(unsafe_code)]
