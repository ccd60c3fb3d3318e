//! How much CPU time a node uses: told by its control group, by the machine, or by its processes.

use super::cpus::Cpus;
use super::view::View;
use procinfo::{CpuTimes, GroupPath, GroupVersion, number_after, own_groups, parse_cpu_times};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UsageSource {
    /// The files of a group that holds the whole node.
    Group(PathBuf),
    /// The times of the CPUs that it may use.
    Machine,
    /// The sum over the processes that it sees: what short-lived ones used is not in it.
    Processes,
}

/// A reading: CPU time, and the time in which it could have been used, both since some start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    /// Microseconds of CPU time.
    Used(u64, Instant),
    /// Ticks of the CPUs: busy, whole.
    Shares(u64, u64),
}

/// Measures the use of CPUs between two looks.
#[derive(Debug)]
pub(super) struct Usage {
    pub(super) source: UsageSource,
    last: Option<Reading>,
}

impl Usage {
    /// Looks for the best source.
    pub(super) fn probe(view: View, cpus: &Cpus) -> Usage {
        let told = |level: &PathBuf| group_use(level).is_some();
        let limited = cpus.quota.as_ref().map(|(_, level)| level.clone()).filter(told);
        let source = match (limited, view) {
            (Some(level), _) => UsageSource::Group(level),
            (None, View::WholeMachine) => UsageSource::Machine,
            (None, View::Part) => {
                let whole = outermost(&own_groups("cpuacct")).filter(told);
                whole.map_or(UsageSource::Processes, UsageSource::Group)
            }
        };
        Usage { source, last: None }
    }

    /// CPUs in use since the last look, if the source is not the processes.
    pub(super) fn measure(&mut self, now: Instant, cpus: &Cpus) -> Option<f64> {
        let reading = match &self.source {
            UsageSource::Group(level) => Reading::Used(group_use(level)?, now),
            UsageSource::Machine => {
                let times = parse_cpu_times(&fs::read_to_string("/proc/stat").ok()?);
                let (busy, whole) = of_allowed(&times, &cpus.allowed);
                Reading::Shares(busy, whole)
            }
            UsageSource::Processes => return None,
        };
        between(self.last.replace(reading)?, reading, cpus.allowed.len() as f64)
    }
}

/// CPUs in use between two readings.
fn between(before: Reading, after: Reading, cpus: f64) -> Option<f64> {
    let used = match (before, after) {
        (Reading::Used(before, from), Reading::Used(after, to)) => {
            let time = to.saturating_duration_since(from).as_secs_f64();
            Duration::from_micros(after.saturating_sub(before)).as_secs_f64() / time
        }
        (Reading::Shares(busy, whole), Reading::Shares(busy_after, whole_after)) => {
            busy_after.saturating_sub(busy) as f64 / whole_after.saturating_sub(whole) as f64 * cpus
        }
        _ => return None,
    };
    used.is_finite().then(|| used.clamp(0.0, cpus))
}

/// Busy and whole time of the CPUs with these numbers.
fn of_allowed(times: &[CpuTimes], allowed: &[usize]) -> (u64, u64) {
    let ours = times.iter().filter(|times| allowed.contains(&times.cpu));
    ours.fold((0, 0), |(busy, whole), times| {
        (busy.saturating_add(times.busy), whole.saturating_add(times.whole))
    })
}

/// CPU time of a group, microseconds, by either version.
fn group_use(level: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(level.join(name)).ok();
    if let Some(microseconds) = read("cpu.stat").and_then(|text| number_after(&text, "usage_usec ")) {
        return Some(microseconds);
    }
    let nanoseconds: u64 = read("cpuacct.usage")?.trim().parse().ok()?;
    Some(nanoseconds / 1000)
}

/// The outermost group that is not the machine's: only that has a `release_agent` (version 1), or no `cgroup.events` (2).
fn outermost(groups: &[GroupPath]) -> Option<PathBuf> {
    let below = |version: GroupVersion, level: &Path| match version {
        GroupVersion::V1 => !level.join("release_agent").exists(),
        GroupVersion::V2 => level.join("cgroup.events").exists(),
    };
    groups.iter().find_map(|path| path.levels.iter().rfind(|level| below(path.version, level)).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_between_two_readings() {
        let start = Instant::now();
        let second = |count| start + Duration::from_secs(count);
        let used = |used, at| Reading::Used(used, second(at));
        assert_eq!(between(used(1_000_000, 0), used(2_000_000, 2), 4.0), Some(0.5));
        // Nothing passed, a counter that went back, two kinds.
        assert_eq!(between(used(1, 0), used(1, 0), 4.0), None);
        assert_eq!(between(used(9, 0), used(1, 1), 4.0), Some(0.0));
        assert_eq!(between(used(9, 0), Reading::Shares(1, 1), 4.0), None);
        assert_eq!(between(Reading::Shares(10, 100), Reading::Shares(60, 200), 4.0), Some(2.0));
        assert_eq!(between(Reading::Shares(10, 100), Reading::Shares(10, 100), 4.0), None);
        assert_eq!(between(used(0, 0), used(u64::MAX, 1), 4.0), Some(4.0));
    }

    #[test]
    fn only_the_allowed_cpus_count() {
        let times: Vec<CpuTimes> = (0..4).map(|cpu| CpuTimes { cpu, busy: 1 << cpu, whole: 100 }).collect();
        assert_eq!(of_allowed(&times, &[1, 3, 9]), (10, 200));
        assert_eq!(of_allowed(&[], &[0]), (0, 0));
    }

    #[test]
    fn groups_of_both_versions_tell_their_use() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(group_use(directory.path()), None);
        fs::write(directory.path().join("cpuacct.usage"), "5000000\n").unwrap();
        // Version 1 has a file of this name, too, that tells something else.
        fs::write(directory.path().join("cpu.stat"), "nr_periods 3\n").unwrap();
        assert_eq!(group_use(directory.path()), Some(5000));
        fs::write(directory.path().join("cpu.stat"), "usage_usec 77\nuser_usec 70\n").unwrap();
        assert_eq!(group_use(directory.path()), Some(77));
    }
}
