//! Readers of `/proc`.
//!
//! Each reads one file in one go and returns plain data. They exist beside the general libraries
//! because migration needs what those leave out (the flags of an area, its `map_files` name), and because a look at all
//! processes once a second must cost next to nothing.
#![forbid(unsafe_code)]

mod glance;
mod groups;
mod maps;
mod stat;
mod status;
mod system;
mod walk;

pub use glance::{Glance, parse_anonymous_pages, parse_glance, parse_schedstat};
pub use groups::{
    GroupPath, GroupVersion, groups_in, own_groups, parse_quota_v1, parse_quota_v2, parse_reclaimable,
    parse_service_group,
};
pub use maps::{
    Identity, Mapping, Mappings, mappings_with_flags, maps, maps_with_flags, parse_maps, shared_anonymous,
};
pub use stat::{Stat, parse_stat, run_time_ns, stat, stat_in, thread_stat};
pub use status::{Status, parse_status, status};
pub use system::{
    CpuTimes, MemoryInfo, Pressure, memory_info, number_after, parse_cpu_times, parse_memory_info,
    parse_pressure, parse_swapped_in,
};
pub use walk::Walk;

use std::io;
use std::os::unix::fs::MetadataExt;

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

/// Whether a process runs the program that this one runs, whatever its path is now.
pub fn runs_our_program(pid: i32) -> bool {
    let file = |pid: &str| std::fs::metadata(format!("/proc/{pid}/exe")).map(|data| (data.dev(), data.ino()));
    file("self").is_ok_and(|own| file(&pid.to_string()).is_ok_and(|theirs| theirs == own))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc gave a malformed {what}"))
}
