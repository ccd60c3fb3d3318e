//! Thin typed wrappers of kernel interfaces that no library has.

pub mod cpu;
