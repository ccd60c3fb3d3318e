//! For how long the threads of a process at home have been waiting.
//!
//! Nobody saw their calls begin, and the kernel does not tell a blocked call's deadline. But the scheduler shows when a
//! thread last ran, which is when it began to wait. The clock it uses is its own, one per CPU: it is compared with that
//! of this thread, taken on the same CPU. Measured: late by less than a millisecond mostly, never early.

//!
//! A wait that began away, or before an earlier journey, is longer than that: what is left of it is begun here when it comes
//! home ([`Parked`]), by the kernel, which shows neither its deadline nor its beginning. So that is noted down.

use nix::libc::SYS_restart_syscall;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use tracee::restart::{self, Waiting};

/// More threads than this are not asked: each costs some fifty microseconds.
const THREADS_ASKED: usize = 256;

/// How long after it was let go a thread may get to its wait: if it ran later than that, it has waited for something else
/// since.
const UNDER_WAY_NS: u64 = 1_000_000_000;

/// A thread whose wait was begun for it when it came home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parked {
    /// Which thread.
    tid: i32,
    /// The call.
    nr: i64,
    /// Its stack pointer there.
    stack: u64,
    /// Its instruction pointer there.
    instruction: u64,
    /// When that was: nanoseconds of `CLOCK_MONOTONIC`.
    since_ns: u64,
    /// When its time is over.
    deadline_ns: u64,
}

impl Parked {
    /// A thread that is to go on with these registers, and to wait for so long.
    pub(super) fn new(tid: i32, registers: &kernel::ptrace::Registers, left_ns: u64) -> Parked {
        let since_ns = restart::now_ns();
        let deadline_ns = since_ns.saturating_add(left_ns);
        let nr = registers.orig_rax.cast_signed();
        Parked { tid, nr, stack: registers.rsp, instruction: registers.rip, since_ns, deadline_ns }
    }

    /// Whether the thread is in that wait still, in which it has been for `waited_ns`.
    fn waits_still(&self, pid: i32, waited_ns: u64) -> bool {
        let began = restart::now_ns().saturating_sub(waited_ns);
        let text = fs::read_to_string(format!("/proc/{pid}/task/{}/syscall", self.tid)).unwrap_or_default();
        // The number, six arguments, the stack pointer and the instruction pointer: proc(5).
        let words: Vec<&str> = text.split_whitespace().collect();
        let [number, .., stack, instruction] = words.as_slice() else { return false };
        let hexadecimal = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        number.parse() == Ok(SYS_restart_syscall)
            && hexadecimal(stack) == Some(self.stack)
            && hexadecimal(instruction) == Some(self.instruction)
            && began <= self.since_ns + UNDER_WAY_NS
    }
}

/// Since when each thread that sleeps now has been doing so, and until when those that are parked.
pub(super) fn observe(pid: i32, parked: &[Parked]) -> BTreeMap<i32, Waiting> {
    let mut waiting = BTreeMap::new();
    let before = sched_getaffinity(Pid::from_raw(0)).ok();
    for tid in procinfo::threads(pid).unwrap_or_default().into_iter().take(THREADS_ASKED) {
        if let Some(waited_ns) = waited(pid, tid) {
            let known = parked.iter().find(|parked| parked.tid == tid);
            let known = known.filter(|parked| parked.waits_still(pid, waited_ns));
            let (nr, deadline_ns) = (known.map(|parked| parked.nr), known.map(|parked| parked.deadline_ns));
            let waited_ns = Some(waited_ns);
            waiting.insert(tid, Waiting { waited_ns, nr, deadline_ns, is_watched: false });
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
