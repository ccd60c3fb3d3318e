//! `/proc/PID/stat`.

use crate::glance::parse_schedstat;
use crate::malformed;
use std::io;
use std::path::Path;

/// The fields of a process's or thread's stat that somebody needs, in the kernel's units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// State letter.
    pub state: u8,
    /// Parent's pid.
    pub parent: i32,
    /// `PF_*` flags of the kernel.
    pub flags: u32,
    /// Page faults that needed no disk, and those that did.
    pub faults: [u64; 2],
    /// User and system time, clock ticks.
    pub cpu_ticks: u64,
    /// System time alone, clock ticks.
    pub system_ticks: u64,
    /// Start time, clock ticks since boot.
    pub start_ticks: u64,
    /// Resident memory, pages.
    pub resident_pages: u64,
    /// `start_code end_code start_stack start_data end_data start_brk arg_start arg_end env_start env_end`.
    pub memory: [u64; 10],
    /// Scheduling policy.
    pub policy: u32,
}

/// Kernel thread (`PF_KTHREAD`).
pub(crate) const PF_KTHREAD: u32 = 0x0020_0000;

impl Stat {
    /// A thread of the kernel.
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }
}

/// The stat of a process.
pub fn stat(pid: i32) -> io::Result<Stat> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat"))?)
}

/// The stat of a process as another mount of `/proc` shows it, like one of another pid namespace.
pub fn stat_in(proc: &Path, pid: i32) -> io::Result<Stat> {
    parse_stat(&std::fs::read(proc.join(pid.to_string()).join("stat"))?)
}

/// The stat of one thread.
pub fn thread_stat(pid: i32, tid: i32) -> io::Result<Stat> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/task/{tid}/stat"))?)
}

/// CPU time of a thread until it last left its CPU, nanoseconds; where the kernel does not count so finely
/// (`CONFIG_SCHED_INFO`), in clock ticks.
pub fn run_time_ns(tid: i32) -> io::Result<u64> {
    const TICK_NS: u64 = 10_000_000;
    let text = std::fs::read(format!("/proc/{tid}/schedstat")).unwrap_or_default();
    match parse_schedstat(&text) {
        Some((nanoseconds, _)) => Ok(nanoseconds),
        None => Ok(thread_stat(tid, tid)?.cpu_ticks.saturating_mul(TICK_NS)),
    }
}

/// The fields in a text like `/proc/PID/stat`.
pub fn parse_stat(text: &[u8]) -> io::Result<Stat> {
    // The name may hold anything, also parentheses: the last one ends it.
    let close = text.iter().rposition(|&byte| byte == b')').ok_or_else(|| malformed("stat"))?;
    let rest = String::from_utf8_lossy(&text[close + 1..]);
    let words: Vec<&str> = rest.split_whitespace().collect();
    // Field numbers are those of proc(5), the first word behind the name being number 3.
    let word = |number: usize| words.get(number - 3).copied().ok_or_else(|| malformed("stat"));
    let number = |index: usize| word(index)?.parse::<u64>().map_err(|_| malformed("stat"));
    let mut memory = [0; 10];
    for (value, field) in memory.iter_mut().zip([26, 27, 28, 45, 46, 47, 48, 49, 50, 51]) {
        *value = number(field)?;
    }
    Ok(Stat {
        state: *word(3)?.as_bytes().first().ok_or_else(|| malformed("stat"))?,
        parent: word(4)?.parse().map_err(|_| malformed("stat"))?,
        flags: number(9)? as u32,
        faults: [number(10)?, number(12)?],
        cpu_ticks: number(14)?.saturating_add(number(15)?),
        system_ticks: number(15)?,
        start_ticks: number(22)?,
        resident_pages: number(24)?,
        memory,
        policy: number(41)? as u32,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn my_own_stat_agrees_with_the_system() {
        let own = super::stat(std::process::id() as i32).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id() as i32);
        assert!(own.start_ticks > 0 && own.memory.iter().all(|&field| field > 0));
        assert!(!own.is_kernel_thread());
    }

    #[test]
    fn work_takes_time() {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let before = super::run_time_ns(tid).unwrap();
        while super::run_time_ns(tid).unwrap() == before {
            std::thread::yield_now();
        }
        assert!(super::run_time_ns(i32::MAX).is_err());
    }

    #[test]
    fn no_numbers_are_too_large() {
        let fields = format!("1 (a) b) S 2 {}", "18446744073709551615 ".repeat(60));
        let stat = super::parse_stat(fields.as_bytes()).unwrap();
        assert_eq!((stat.parent, stat.cpu_ticks), (2, u64::MAX));
        assert!(super::parse_stat(b"1 (a) S 2").is_err());
    }
}
