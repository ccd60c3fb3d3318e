//! Readers of /proc.
#![forbid(unsafe_code)]
