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
        let (its, own) = (clock_offsets(&pid.to_string()), clock_offsets("self"));
        let shift = Clocks {
            monotonic_ns: its.monotonic_ns - own.monotonic_ns,
            boottime_ns: its.boottime_ns - own.boottime_ns,
        };
        let arrival = Arrival { shown: *shown, shift };
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
