//! The clocks of processes and machines.
//!
//! A guest's clocks are its home's, shifted by a time namespace. The shift is measured over the network and is a little
//! too small, never too large (so that no clock goes back when the process comes home). Too small means that a clock
//! could show less after the move than before it, where the move took less time than the error: `CLOCK_MONOTONIC` hardly
//! ever, but `CLOCK_MONOTONIC_COARSE` stands still for whole ticks. So the process is not set going before all its
//! clocks have passed what they showed last.

use image::{Clocks, Shown};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Longer than this nobody waits for a clock: it would be no error of measurement.
const WAIT_MAX: Duration = Duration::from_secs(2);

fn now(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// By how much the clocks in a process's time namespace are ahead of the machine's own; `process` names its directory
/// in `/proc`.
pub fn clock_offsets(process: &str) -> Clocks {
    let text = std::fs::read_to_string(format!("/proc/{process}/timens_offsets")).unwrap_or_default();
    let offset = |clock: &str| {
        let line = text.lines().find(|line| line.starts_with(clock)).unwrap_or_default();
        let mut numbers = line.split_whitespace().skip(1).filter_map(|word| word.parse::<i64>().ok());
        numbers.next().unwrap_or(0) * 1_000_000_000 + numbers.next().unwrap_or(0)
    };
    Clocks { monotonic_ns: offset("monotonic"), boottime_ns: offset("boottime") }
}

/// The clocks of this process.
pub fn own_clocks() -> Clocks {
    Clocks { monotonic_ns: now(ClockId::Monotonic), boottime_ns: now(ClockId::Boottime) }
}

/// `CLOCK_MONOTONIC` as a process sees it: that of the calling process, shifted by its time namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monotonic {
    ahead_ns: i64,
}

impl Monotonic {
    /// That of the calling process itself.
    pub const SAME: Monotonic = Monotonic { ahead_ns: 0 };

    /// That of this process.
    pub fn of(pid: i32) -> Monotonic {
        Monotonic { ahead_ns: shift(pid).monotonic_ns }
    }

    /// What it shows when that of the calling process shows `here_ns`.
    pub fn there(self, here_ns: u64) -> i64 {
        i64::try_from(here_ns).unwrap_or(i64::MAX).saturating_add(self.ahead_ns)
    }

    /// What that of the calling process shows when it shows `there_ns`; 0 if that was before it began.
    pub fn here(self, there_ns: i64) -> u64 {
        u64::try_from(there_ns.saturating_sub(self.ahead_ns)).unwrap_or(0)
    }
}

/// By how much the clocks of a process are ahead of those of the calling process.
fn shift(pid: i32) -> Clocks {
    let (its, own) = (clock_offsets(&pid.to_string()), clock_offsets("self"));
    Clocks {
        monotonic_ns: its.monotonic_ns - own.monotonic_ns,
        boottime_ns: its.boottime_ns - own.boottime_ns,
    }
}

/// Whose CPU time a clock counts. Pids and tids are the caller's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// All threads of a process, also those that have ended.
    Process(i32),
    /// One thread.
    Thread(i32),
}

impl Whose {
    /// The low bits of a clock's number: what the scheduler counts, of a thread or of a process.
    const SCHEDULED: i32 = 2;
    const OF_THREAD: i32 = 4;
    const BITS: u32 = 3;

    /// Whose CPU time the clock of this number counts for a thread of a process; `None` if it is another kind of clock.
    /// (`clock_getcpuclockid(3)` makes such numbers; 0 stands for the caller.)
    pub fn of_clock(number: i32, pid: i32, tid: i32) -> Option<Whose> {
        match number {
            nix::libc::CLOCK_PROCESS_CPUTIME_ID => return Some(Whose::Process(pid)),
            nix::libc::CLOCK_THREAD_CPUTIME_ID => return Some(Whose::Thread(tid)),
            0.. => return None,
            _ => {}
        }
        let or = |own: i32| Some(!(number >> Whose::BITS)).filter(|&named| named != 0).unwrap_or(own);
        match number & ((1 << Whose::BITS) - 1) {
            Whose::SCHEDULED => Some(Whose::Process(or(pid))),
            bits if bits == Whose::SCHEDULED | Whose::OF_THREAD => Some(Whose::Thread(or(tid))),
            _ => None,
        }
    }

    /// CPU time until now, or until it last left its CPU; nanoseconds. 0 if there is no such process or thread any more.
    pub fn cpu_ns(self) -> u64 {
        match self {
            Whose::Process(pid) => {
                let clock = nix::time::ClockId::from_raw(!pid << Whose::BITS | Whose::SCHEDULED);
                let time = nix::time::clock_gettime(clock).map(Duration::try_from);
                time.ok().and_then(Result::ok).map_or(0, |time| time.as_nanos() as u64)
            }
            // Its clock can be read by its own process only.
            Whose::Thread(tid) => procinfo::run_time_ns(tid).unwrap_or(0),
        }
    }
}

/// The clocks of a stopped process, and what they showed where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    shown: Shown,
    /// By how much they are ahead of those of the calling process.
    shift: Clocks,
}

impl Arrival {
    /// Those of this process; `None` if they are so far behind that waiting makes no sense.
    pub fn of(pid: i32, shown: &Shown) -> Option<Arrival> {
        let arrival = Arrival { shown: *shown, shift: shift(pid) };
        (arrival.behind() <= WAIT_MAX).then_some(arrival)
    }

    /// By how much they must still go on before none of them shows less than it did.
    fn behind(&self) -> Duration {
        let Arrival { shown, shift } = self;
        let late = [
            shown.monotonic_ns - (now(ClockId::Monotonic) + shift.monotonic_ns),
            shown.coarse_ns - (now(ClockId::MonotonicCoarse) + shift.monotonic_ns),
            shown.boottime_ns - (now(ClockId::Boottime) + shift.boottime_ns),
        ];
        Duration::from_nanos(late.into_iter().max().unwrap_or(0).max(0) as u64)
    }

    /// Waits until none of them shows less than it did. This may take a tick of the machine, in which other things that
    /// are to come before the process goes on can be done: so it is the last of them.
    pub fn catch_up(&self) {
        loop {
            match self.behind() {
                Duration::ZERO => return,
                // The coarse clock goes on with the next tick, however little is missing.
                late => std::thread::sleep(late.clamp(Duration::from_micros(20), WAIT_MAX)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_on_both_clocks() {
        let behind = Monotonic { ahead_ns: -5_000 };
        assert_eq!((behind.there(7_000), behind.here(2_000)), (2_000, 7_000));
        assert_eq!((behind.there(1_000), behind.here(-4_000)), (-4_000, 1_000));
        assert_eq!((behind.here(i64::MIN), behind.here(-6_000)), (0, 0));
        // Who waits for ever does so on any clock.
        let ahead = Monotonic { ahead_ns: 5_000 };
        assert_eq!((ahead.there(u64::MAX), behind.here(i64::MAX)), (i64::MAX, i64::MAX as u64));
        assert_eq!(Monotonic::of(std::process::id() as i32), Monotonic::SAME);
    }

    #[test]
    fn the_numbers_of_cpu_clocks_are_the_kernels() {
        let (pid, tid) = (std::process::id() as i32, nix::unistd::gettid().as_raw());
        let number = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(pid)).unwrap().as_raw();
        assert_eq!(Whose::of_clock(number, 1, 2), Some(Whose::Process(pid)));
        assert_eq!(Whose::of_clock(2, 1, 2), Some(Whose::Process(1)));
        assert_eq!(Whose::of_clock(3, 1, 2), Some(Whose::Thread(2)));
        assert_eq!(Whose::of_clock(!0 << 3 | 6, 1, 2), Some(Whose::Thread(2)));
        assert_eq!(Whose::of_clock(!tid << 3 | 6, 1, 2), Some(Whose::Thread(tid)));
        // CLOCK_MONOTONIC; the clock of a device (`FD_TO_CLOCKID`); one that counts user time alone.
        assert_eq!([1, !7 << 3 | 3, !pid << 3 | 1].map(|number| Whose::of_clock(number, 1, 2)), [None; 3]);
        let deadline = std::time::Instant::now() + WAIT_MAX;
        while Whose::Thread(tid).cpu_ns() == 0 && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let before = Whose::Thread(tid).cpu_ns();
        assert!(before > 0 && before <= Whose::Process(pid).cpu_ns());
        assert!(before <= now(ClockId::ThreadCPUTime) as u64);
        assert_eq!(Whose::Process(1 << 24).cpu_ns(), 0);
    }
}
