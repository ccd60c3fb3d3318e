//! Readers of `/proc`.
//!
//! Each reads one file of one process in one go and returns plain data. They exist beside the general libraries
//! because migration needs what those leave out (the flags of an area, its `map_files` name) and must not be slowed by
//! what it does not need.
#![forbid(unsafe_code)]

mod maps;
mod stat;
mod status;

pub use maps::{Mapping, maps, maps_with_flags, parse_maps, parse_smaps};
pub use stat::{Stat, parse_stat, stat, stat_in, thread_stat};
pub use status::{Status, parse_status, status};

use std::io;

/// The thread ids of a process, ascending.
pub fn threads(pid: i32) -> io::Result<Vec<i32>> {
    let mut tids = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        if let Some(tid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            tids.push(tid);
        }
    }
    tids.sort_unstable();
    Ok(tids)
}

/// The command name of a thread.
pub fn name(pid: i32, tid: i32) -> io::Result<String> {
    let name = std::fs::read(format!("/proc/{pid}/task/{tid}/comm"))?;
    Ok(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc gave a malformed {what}"))
}
