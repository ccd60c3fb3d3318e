//! Seizing, capturing, rebuilding and hollowing out a process.
