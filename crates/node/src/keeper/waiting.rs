//! For how long the threads of a process at home have been waiting.
//!
//! Nobody saw their calls begin, and the kernel does not tell a blocked call's deadline. But the scheduler shows when a
//! thread last ran, which is when it began to wait. The clock it uses is its own, one per CPU: it is compared with that
//! of this thread, taken on the same CPU. Measured: late by less than a millisecond mostly, never early.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use tracee::restart::Waiting;

/// More threads than this are not asked: each costs some fifty microseconds.
const THREADS_ASKED: usize = 256;

/// Since when each thread that sleeps now has been doing so.
pub(super) fn observe(pid: i32) -> BTreeMap<i32, Waiting> {
    let mut waiting = BTreeMap::new();
    let before = sched_getaffinity(Pid::from_raw(0)).ok();
    for tid in procinfo::threads(pid).unwrap_or_default().into_iter().take(THREADS_ASKED) {
        if let Some(waited_ns) = waited(pid, tid) {
            waiting.insert(tid, Waiting { waited_ns: Some(waited_ns), nr: None });
        }
    }
    if let Some(before) = before {
        let _ = sched_setaffinity(Pid::from_raw(0), &before);
    }
    waiting
}

fn waited(pid: i32, tid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split_whitespace().collect();
    // Fields 3 and 39 of proc(5): state and CPU.
    if fields.first() != Some(&"S") {
        return None;
    }
    let cpu: usize = fields.get(36)?.parse().ok()?;
    let began = last_ran(&format!("/proc/{pid}/task/{tid}/sched"))?;
    let mut set = CpuSet::new();
    set.set(cpu).ok()?;
    sched_setaffinity(Pid::from_raw(0), &set).ok()?;
    // A moment's sleep makes the scheduler note the time for this thread, on this CPU.
    std::thread::sleep(Duration::from_micros(1));
    let now = last_ran("/proc/thread-self/sched")?;
    now.checked_sub(began)
}

/// `se.exec_start` in nanoseconds; the file gives milliseconds with six decimals.
fn last_ran(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with("se.exec_start"))?;
    let (whole, fraction) = line.rsplit(':').next()?.trim().split_once('.')?;
    Some(whole.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?)
}
