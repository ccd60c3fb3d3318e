//! A node's look at itself: load, speed, utilisation, memory.
//!
//! Simple ones, from `/proc`: the figures of the machine that the daemon runs on.

use crate::machine;
use control::{Figures, STANDARD_LOAD, STANDARD_SPEED, Standing};
use std::sync::{Mutex, PoisonError};

/// Time of all CPUs, in clock ticks since boot (proc(5), `/proc/stat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
}

/// Remembers the last look, since some figures are differences.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    last: Mutex<(Ticks, u32)>,
}

impl Gauge {
    /// What this machine is doing now.
    pub(crate) fn look(&self, standing: Standing) -> Figures {
        let memory = machine::memory();
        let speed = standing.speed.unwrap_or(STANDARD_SPEED);
        let cpus = machine::cpus();
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Figures {
            speed: Some(speed),
            cpus: Some(f64::from(cpus)),
            load: load(&text("/proc/loadavg"), cpus, speed),
            memory_total: Some(memory.total),
            memory_free: Some(memory.free),
            utilisation: ticks(&text("/proc/stat")).map(|now| self.utilisation(now)),
            standing: Some(standing),
            accepts: None,
        }
    }

    /// Busy ticks among those since the last look; where none has passed, as before.
    fn utilisation(&self, now: Ticks) -> u32 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let all = now.all.saturating_sub(last.0.all);
        if all > 0 {
            let idle = now.idle.saturating_sub(last.0.idle).min(all);
            *last = (now, u32::try_from((all - idle) * 100 / all).unwrap_or(100));
        }
        last.1
    }
}

/// openMosix's load: the mean number of runnable processes, for each standard CPU's worth of this machine.
fn load(text: &str, cpus: u32, speed: u32) -> Option<u32> {
    let runnable: f64 = text.split_whitespace().next()?.parse().ok()?;
    let power = f64::from(cpus.max(1)) * f64::from(speed.max(1)) / f64::from(STANDARD_SPEED);
    // A saturating conversion; no machine has such a load.
    Some((runnable * f64::from(STANDARD_LOAD) / power).round() as u32)
}

fn ticks(text: &str) -> Option<Ticks> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user time already.
    let all = numbers.iter().take(8).sum();
    Some(Ticks { all, idle: numbers.get(3)? + numbers.get(4).unwrap_or(&0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standard_cpu_with_one_process_has_the_load_100() {
        for (text, cpus, speed, expected) in [
            ("1.00 0.50 0.10 2/300 4711", 1, 1000, Some(100)),
            ("3.00 0 0", 2, 1000, Some(150)),
            ("3.00 0 0", 1, 2000, Some(150)),
            ("0.00", 0, 0, Some(0)),
            ("", 1, 1000, None),
            ("x", 1, 1000, None),
        ] {
            assert_eq!(load(text, cpus, speed), expected, "{text} {cpus} {speed}");
        }
    }

    #[test]
    fn utilisation_is_of_the_time_since_the_last_look() {
        let gauge = Gauge::default();
        let at = |text| gauge.utilisation(ticks(text).unwrap());
        assert_eq!(at("intr 5\ncpu  10 0 10 60 20 0 0 0 5\ncpu0 1 1 1 1\n"), 20);
        assert_eq!(at("cpu  10 0 10 60 20 0 0 0"), 20, "no time has passed");
        assert_eq!(at("cpu  110 0 10 60 20 0 0 0"), 100);
        assert_eq!(at("cpu  110 0 10 160 20 0 0 0"), 0);
        assert_eq!(at("cpu  0 0 0 0 0"), 0, "a clock that goes back is none");
        assert!(ticks("cpu  1 2").is_none());
    }
}
