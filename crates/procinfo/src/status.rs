//! `/proc/PID/status`.

use crate::malformed;
use std::io;

/// The fields of a process's or thread's status that somebody needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// State letter.
    pub state: u8,
    /// Thread-group id.
    pub tgid: i32,
    /// Tracer, 0 if there is none.
    pub tracer: i32,
    /// Real, effective, saved, file-system user id.
    pub uids: [u32; 4],
    /// Real, effective, saved, file-system group id.
    pub gids: [u32; 4],
    /// Pids from the reader's namespace inwards.
    pub ns_pids: Vec<i32>,
    /// Signals pending for the thread.
    pub pending: u64,
    /// Signals pending for the process.
    pub shared_pending: u64,
    /// Blocked signals.
    pub blocked: u64,
    /// Ignored signals.
    pub ignored: u64,
    /// Caught signals.
    pub caught: u64,
    /// Seccomp mode.
    pub seccomp: u32,
    /// Locked memory, kB.
    pub locked_kb: u64,
    /// Resident memory, kB.
    pub resident_kb: u64,
    /// The most that it has been, kB.
    pub peak_kb: u64,
    /// The part of it that is shared memory of no file on a disk, kB.
    pub shared_kb: u64,
}

/// The status of a process or, given a tid, of a thread.
pub fn status(pid: i32) -> io::Result<Status> {
    let text = std::fs::read(format!("/proc/{pid}/status"))?;
    parse_status(&String::from_utf8_lossy(&text))
}

/// The fields in a text like `/proc/PID/status`.
pub fn parse_status(text: &str) -> io::Result<Status> {
    let mut status = Status::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        let first = value.split_whitespace().next().unwrap_or("");
        let bad = || malformed("status");
        let mask = || u64::from_str_radix(first, 16).map_err(|_| bad());
        match key {
            "State" => status.state = *first.as_bytes().first().ok_or_else(bad)?,
            "Tgid" => status.tgid = first.parse().map_err(|_| bad())?,
            "TracerPid" => status.tracer = first.parse().map_err(|_| bad())?,
            "Uid" => status.uids = four(value).ok_or_else(bad)?,
            "Gid" => status.gids = four(value).ok_or_else(bad)?,
            "NSpid" => status.ns_pids = value.split_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
            "SigPnd" => status.pending = mask()?,
            "ShdPnd" => status.shared_pending = mask()?,
            "SigBlk" => status.blocked = mask()?,
            "SigIgn" => status.ignored = mask()?,
            "SigCgt" => status.caught = mask()?,
            "Seccomp" => status.seccomp = first.parse().map_err(|_| bad())?,
            "VmLck" => status.locked_kb = first.parse().map_err(|_| bad())?,
            "VmHWM" => status.peak_kb = first.parse().map_err(|_| bad())?,
            "VmRSS" => status.resident_kb = first.parse().map_err(|_| bad())?,
            "RssShmem" => status.shared_kb = first.parse().map_err(|_| bad())?,
            _ => {}
        }
    }
    Ok(status)
}

fn four(value: &str) -> Option<[u32; 4]> {
    let mut words = value.split_whitespace().map(str::parse::<u32>);
    let mut next = || words.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    #[test]
    fn my_own_status_agrees_with_the_system() {
        let pid = std::process::id() as i32;
        let own = super::status(pid).unwrap();
        assert_eq!((own.tgid, own.tracer), (pid, 0));
        assert_eq!(own.ns_pids.first(), Some(&pid));
    }
}
