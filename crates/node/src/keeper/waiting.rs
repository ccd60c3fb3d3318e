//! Since when the threads of a process at home have been waiting.
//!
//! Nobody saw their calls begin, and the kernel does not tell a blocked call's deadline. But the scheduler shows when a
//! thread last ran, which is when it began to wait. The clock it uses is its own, one per CPU: it is compared with that
//! of this thread, taken on the same CPU. Measured: late by less than a millisecond mostly, never early.
//!
//! A wait that began away, or before an earlier journey, is longer than that: what is left of it is begun here when it comes
//! home ([`Parked`]), by the kernel, which shows neither its deadline nor its beginning. So that is noted down.

use kernel::ptrace::Registers;
use nix::libc::{EINTR, SYS_restart_syscall};
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
    /// When it began, where that is what counts.
    #[serde(default)]
    began_ns: Option<u64>,
    /// How often it had been taken off a CPU when it slept in the call itself; `None` if it goes on by `restart_syscall`,
    /// which tells by itself that it is still that wait.
    #[serde(default)]
    switches: Option<u64>,
}

impl Parked {
    /// A thread that is to go on with these registers, and to wait until then.
    pub(super) fn new(tid: i32, registers: &Registers, deadline_ns: u64) -> Parked {
        let nr = registers.orig_rax.cast_signed();
        let (stack, instruction) = (registers.rsp, registers.rip);
        let since_ns = restart::now_ns();
        Parked { tid, nr, stack, instruction, since_ns, deadline_ns, began_ns: None, switches: None }
    }

    /// The same, where the wait began then and may last for so long, as its socket says.
    pub(super) fn by_socket(tid: i32, registers: &Registers, (began_ns, total_ns): (u64, u64)) -> Parked {
        Parked { began_ns: Some(began_ns), ..Parked::new(tid, registers, began_ns.saturating_add(total_ns)) }
    }

    /// How much of its time is left.
    pub(super) fn left_ns(&self) -> u64 {
        self.deadline_ns.saturating_sub(restart::now_ns())
    }

    /// Whether this is about a thread.
    pub(super) fn is_of(&self, tid: i32) -> bool {
        self.tid == tid
    }

    /// It sleeps in the call itself now.
    pub(super) fn sleeps(&mut self, pid: i32) {
        // Answered only when it is off its CPU: until then it would not be counted.
        if self.is_there(pid, self.nr) {
            self.switches = switches(pid, self.tid);
        }
    }

    /// Whether the thread, which has been waiting since `began_ns`, is in that wait still.
    fn waits_still(&self, pid: i32, began_ns: u64) -> bool {
        match self.switches {
            Some(_) => self.is_there(pid, self.nr) && switches(pid, self.tid) == self.switches,
            None => self.is_there(pid, SYS_restart_syscall) && began_ns <= self.since_ns + UNDER_WAY_NS,
        }
    }

    /// Whether the thread waits in call `nr` at that place.
    fn is_there(&self, pid: i32, nr: i64) -> bool {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{}/syscall", self.tid)).unwrap_or_default();
        // The number, six arguments, the stack pointer and the instruction pointer: proc(5).
        let words: Vec<&str> = text.split_whitespace().collect();
        let [number, .., stack, instruction] = words.as_slice() else { return false };
        let hexadecimal = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        number.parse() == Ok(nr)
            && hexadecimal(stack) == Some(self.stack)
            && hexadecimal(instruction) == Some(self.instruction)
    }
}

/// How often a thread has been taken off a CPU, or has left it by itself. One that sleeps and has slept all the time keeps
/// its number.
fn switches(pid: i32, tid: i32) -> Option<u64> {
    counts(pid, tid).map(|counts| counts.iter().sum())
}

/// How often a thread has gone to sleep, or has stopped.
fn voluntary_switches(pid: i32, tid: i32) -> Option<u64> {
    counts(pid, tid).map(|[voluntary, _]| voluntary)
}

/// How often a thread has left its CPU by itself, and how often it has been taken off it.
fn counts(pid: i32, tid: i32) -> Option<[u64; 2]> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    let count = |key: &str| text.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok();
    Some([count("voluntary_ctxt_switches:")?, count("nonvoluntary_ctxt_switches:")?])
}

/// What was seen of the threads of a process before it was stopped.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<i32, Sight>);

/// What was seen of a thread that slept, or was stopped.
#[derive(Clone, Copy, Debug)]
struct Sight {
    waiting: Waiting,
    /// How often it had gone to sleep by then, or a little earlier.
    sleeps: Option<u64>,
}

impl Seen {
    /// What holds for a thread that stands now, and has done nothing since it was stopped.
    ///
    /// It may have ended its wait before it was stopped, and have begun another: then it has gone to sleep once more than to
    /// stand, and what was seen is of no use. A call that goes on by `restart_syscall` is none that was begun since.
    pub(super) fn of(&self, pid: i32, registers: &Registers, tid: i32) -> Option<Waiting> {
        let Sight { waiting, sleeps } = *self.0.get(&tid)?;
        let (entered, ret) = (registers.orig_rax.cast_signed(), registers.rax.cast_signed());
        if waiting.is_stopped || entered == SYS_restart_syscall {
            return Some(waiting);
        }
        // Other calls are made again as they are.
        let counts = [restart::ERESTART_RESTARTBLOCK, -i64::from(EINTR)].contains(&ret);
        let is_same = || sleeps.is_some() && voluntary_switches(pid, tid) == sleeps.map(|before| before + 1);
        (counts && is_same()).then_some(waiting)
    }
}

/// Since when each thread that sleeps, or is stopped, has been doing so, and until when those that are parked.
pub(super) fn observe(pid: i32, parked: &[Parked]) -> Seen {
    let mut seen = Seen::default();
    let before = sched_getaffinity(Pid::from_raw(0)).ok();
    for tid in procinfo::threads(pid).unwrap_or_default().into_iter().take(THREADS_ASKED) {
        let sleeps = voluntary_switches(pid, tid);
        if let Some((waited_ns, is_stopped)) = waited(pid, tid) {
            let since_ns = restart::now_ns().saturating_sub(waited_ns);
            let known = parked.iter().find(|parked| parked.tid == tid);
            let known = known.filter(|parked| parked.waits_still(pid, since_ns));
            let (nr, deadline_ns) = (known.map(|parked| parked.nr), known.map(|parked| parked.deadline_ns));
            let is_watched = known.is_some_and(|parked| parked.switches.is_some());
            let since_ns = known.and_then(|parked| parked.began_ns).unwrap_or(since_ns);
            let waiting = Waiting { since_ns: Some(since_ns), nr, deadline_ns, is_watched, is_stopped };
            seen.0.insert(tid, Sight { waiting, sleeps });
        }
    }
    if let Some(before) = before {
        let _ = sched_setaffinity(Pid::from_raw(0), &before);
    }
    seen
}

/// For how long a thread has slept, or has been stopped, and whether it is stopped.
fn waited(pid: i32, tid: i32) -> Option<(u64, bool)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split_whitespace().collect();
    // Fields 3 and 39 of proc(5): state and CPU.
    let is_stopped = match *fields.first()? {
        "S" => false,
        "T" => true,
        _ => return None,
    };
    let cpu: usize = fields.get(36)?.parse().ok()?;
    let began = last_ran(&format!("/proc/{pid}/task/{tid}/sched"))?;
    let mut set = CpuSet::new();
    set.set(cpu).ok()?;
    sched_setaffinity(Pid::from_raw(0), &set).ok()?;
    // A moment's sleep makes the scheduler note the time for this thread, on this CPU.
    std::thread::sleep(Duration::from_micros(1));
    let now = last_ran("/proc/thread-self/sched")?;
    Some((now.checked_sub(began)?, is_stopped))
}

/// `se.exec_start` in nanoseconds; the file gives milliseconds with six decimals.
fn last_ran(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with("se.exec_start"))?;
    let (whole, fraction) = line.rsplit(':').next()?.trim().split_once('.')?;
    Some(whole.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc;
    use std::io::{Read as _, Write as _};
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;
    use tracee::registers::to_raw;
    use tracee::stop::Stopped;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Waits until a process with one thread sleeps, off its CPU, and more often than this; how often it has.
    fn asleep(pid: i32, not_at: Option<u64>) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "it does not sleep");
            let sleeps = voluntary_switches(pid, pid);
            let status = procinfo::stat(pid).unwrap();
            if status.state == b'S' && sleeps != not_at && sleeps == voluntary_switches(pid, pid) {
                return sleeps.unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn sight_of_stopped(seen: &Seen, pid: i32, registers: &Registers) -> Option<Waiting> {
        let stopped = Stopped::freeze(pid, PATIENCE).unwrap();
        let sight = seen.of(pid, registers, pid);
        drop(stopped);
        sight
    }

    /// It waits for input, as others do for a time.
    fn waiting_program() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn what_was_seen_of_another_wait_does_not_count() {
        let mut program = waiting_program();
        let pid = program.id() as i32;
        let (mut input, mut output) = (program.stdin.take().unwrap(), program.stdout.take().unwrap());
        let mut echo = |input: &mut std::process::ChildStdin| {
            input.write_all(b"x").unwrap();
            output.read_exact(&mut [0]).unwrap();
        };
        // Past its start, at which it may sleep for other things.
        echo(&mut input);
        let before_ns = restart::now_ns();
        let sleeps = asleep(pid, None);
        let cut_short = |nr: i64| {
            let (orig_rax, rax) = (nr as u64, restart::ERESTART_RESTARTBLOCK as u64);
            to_raw(&image::Registers { orig_rax, rax, ..image::Registers::default() })
        };
        let timed = cut_short(libc::SYS_poll);
        let seen = observe(pid, &[]);
        let same = sight_of_stopped(&seen, pid, &timed).unwrap();
        let since_ns = same.since_ns.unwrap();
        // It slept before it was looked at; the scheduler's clocks are a little apart.
        assert!(
            since_ns + 1_000_000_000 > before_ns && since_ns <= restart::now_ns(),
            "{since_ns} {before_ns}"
        );
        // It was woken to be stopped, and sleeps once more.
        let again = asleep(pid, Some(sleeps));
        let seen = observe(pid, &[]);
        echo(&mut input);
        asleep(pid, Some(again));
        assert!(sight_of_stopped(&seen, pid, &timed).is_none(), "it was another wait");
        // One that goes on by itself is none that was begun since.
        assert!(sight_of_stopped(&seen, pid, &cut_short(SYS_restart_syscall)).is_some());
        drop(input);
        assert!(program.wait().unwrap().success());
    }
}
