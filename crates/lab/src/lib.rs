//! A whole virtual cluster on one machine.
