//! What the kernel counts for the whole machine: memory, swapping, CPU time, waiting for memory.

use std::io;

/// Memory of the machine, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryInfo {
    /// All of it.
    pub total: u64,
    /// What nothing uses, not even a cache.
    pub free: u64,
    /// What could be given to programs without swapping.
    pub available: u64,
    /// What is swapped out.
    pub swapped: u64,
}

/// Shares of the last ten seconds in which somebody waited (`some`), or everybody did (`full`), thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: u16,
    /// All tasks that were not idle waited.
    pub full: u16,
}

/// CPU time of one CPU, clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Its number.
    pub cpu: usize,
    /// Time in which it worked for somebody.
    pub busy: u64,
    /// All its time, without what another machine took from it.
    pub whole: u64,
}

/// The memory of the machine.
pub fn memory_info() -> io::Result<MemoryInfo> {
    Ok(parse_memory_info(&std::fs::read_to_string("/proc/meminfo")?))
}

/// The memory in a text like `/proc/meminfo`; what is absent is 0.
pub fn parse_memory_info(text: &str) -> MemoryInfo {
    let kilobytes = |key: &str| number_after(text, key).unwrap_or(0).saturating_mul(1024);
    let total = kilobytes("MemTotal:");
    MemoryInfo {
        total,
        free: kilobytes("MemFree:").min(total),
        available: kilobytes("MemAvailable:").min(total),
        swapped: kilobytes("SwapTotal:").saturating_sub(kilobytes("SwapFree:")),
    }
}

/// Pages swapped in since boot, in a text like `/proc/vmstat`.
pub fn parse_swapped_in(text: &str) -> Option<u64> {
    number_after(text, "pswpin ")
}

/// The number behind the key at the beginning of a line.
pub fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The pressure in a text like `/proc/pressure/memory` (`Documentation/accounting/psi.rst`).
pub fn parse_pressure(text: &str) -> Option<Pressure> {
    let share = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let percent = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
        let percent: f64 = percent.parse().ok()?;
        percent.is_finite().then(|| (percent.clamp(0.0, 100.0) * 10.0).round() as u16)
    };
    Some(Pressure { some: share("some ")?, full: share("full ").unwrap_or(0) })
}

/// The times of each CPU in a text like `/proc/stat`.
pub fn parse_cpu_times(text: &str) -> Vec<CpuTimes> {
    let line = |line: &str| {
        let (name, times) = line.strip_prefix("cpu")?.split_once(' ')?;
        // user nice system idle iowait irq softirq steal; the guests' times behind them are part of the first two.
        let times: Vec<u64> = times.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let [user, nice, system, idle, iowait, irq, softirq, ..] = times[..] else { return None };
        let sum = |times: &[u64]| times.iter().fold(0, |sum: u64, time| sum.saturating_add(*time));
        let busy = sum(&[user, nice, system, irq, softirq]);
        Some(CpuTimes { cpu: name.parse().ok()?, busy, whole: sum(&[busy, idle, iowait]) })
    };
    text.lines().take_while(|line| line.starts_with("cpu")).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_is_read_and_hostile_numbers_are_bounded() {
        let memory = memory_info().unwrap();
        assert!(memory.total > 0 && memory.free <= memory.total && memory.available <= memory.total);
        let most = format!("MemTotal: 10 kB\nMemFree: {} kB\nMemAvailable: x kB\nSwapFree: 5 kB\n", u64::MAX);
        let bounded = MemoryInfo { total: 10 << 10, free: 10 << 10, available: 0, swapped: 0 };
        assert_eq!(parse_memory_info(&most), bounded);
        assert_eq!(parse_swapped_in("pgpgin 1\npswpin 77\npswpout 3\n"), Some(77));
        assert_eq!(parse_swapped_in("pswpinx 77\n"), None);
    }

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=1.25 avg60=0.10 avg300=0.01 total=6\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=2\n";
        assert_eq!(parse_pressure(text), Some(Pressure { some: 13, full: 5 }));
        // That of CPUs had no second line once.
        assert_eq!(parse_pressure("some avg10=200.0 total=6\n"), Some(Pressure { some: 1000, full: 0 }));
        for bad in ["", "some", "some avg10=x", "some avg10=NaN total=1", "full avg10=1.0"] {
            assert_eq!(parse_pressure(bad), None, "{bad}");
        }
    }

    #[test]
    fn cpu_times_without_what_was_stolen() {
        let text = "cpu  9 9 9 9 9 9 9\ncpu0 1 2 3 40 5 6 7 80 9 9\ncpu3 1 2 3\ncpu2 0 0 0 1 0 0 0\nintr 1\ncpu9 1 1 1 1 1 1 1\n";
        let expected = [CpuTimes { cpu: 0, busy: 19, whole: 64 }, CpuTimes { cpu: 2, busy: 0, whole: 1 }];
        assert_eq!(parse_cpu_times(text), expected);
        assert!(!parse_cpu_times(&std::fs::read_to_string("/proc/stat").unwrap()).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_makes_them_panic(text in "(some |full |avg10=|cpu[0-9]*|MemFree:|[ \n]|-?[0-9]{0,25}(\\.[0-9]{0,9})?){0,40}") {
            let _ = parse_memory_info(&text);
            let _ = parse_pressure(&text);
            let _ = parse_cpu_times(&text);
            let _ = parse_swapped_in(&text);
        }
    }
}
