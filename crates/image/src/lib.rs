//! The frozen process: everything that travels when a process moves.
#![forbid(unsafe_code)]
