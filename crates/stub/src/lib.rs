//! The blob that runs inside other processes, and its loader.
