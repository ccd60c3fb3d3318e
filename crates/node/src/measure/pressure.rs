//! How much a node waits for memory: told by the kernel, or else by what its processes suffer.

use super::memory::MemoryLimits;
use super::view::View;
use procinfo::{GroupPath, GroupVersion, MemoryInfo, Pressure, own_groups, parse_pressure, parse_swapped_in};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the machine's own is.
const OF_MACHINE: &str = "/proc/pressure/memory";
/// Pages swapped in each second that count as waiting all the time: a page takes about a millisecond.
const SWAPPED_IN_FULL: f64 = 1000.0;
/// A file that every group of version 2 has, except the machine's.
const NOT_AT_ROOT: &str = "cgroup.events";

/// Where the pressure on memory is read, the best that there is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PressureSource {
    /// What the kernel tells of a control group or of the machine (`Documentation/accounting/psi.rst`).
    Told(PathBuf),
    /// Pages that the machine swaps in.
    SwapActivity {
        /// Pages since boot, and when.
        last: Option<(u64, Instant)>,
    },
    /// How many of the node's threads wait for swapped-out memory instead of running.
    Waiting,
}

impl PressureSource {
    /// Looks for the best.
    pub(super) fn probe(view: View, limits: &MemoryLimits, machine: &MemoryInfo) -> PressureSource {
        let told = |path: &Path| fs::read_to_string(path).is_ok_and(|text| parse_pressure(&text).is_some());
        let group = match (limits.innermost(machine), view) {
            (Some((GroupVersion::V2, level)), _) => Some(level.to_owned()),
            (_, View::Part) => outermost(&own_groups("memory")),
            (_, View::WholeMachine) => None,
        };
        if let Some(file) = group.map(|level| level.join("memory.pressure")).filter(|file| told(file)) {
            return PressureSource::Told(file);
        }
        match view {
            View::WholeMachine if told(Path::new(OF_MACHINE)) => PressureSource::Told(OF_MACHINE.into()),
            View::WholeMachine => PressureSource::SwapActivity { last: None },
            // The machine's would tell of the neighbours.
            View::Part => PressureSource::Waiting,
        }
    }

    /// The pressure now. `runnable` and `waiting` are threads: all that have work, and those of them that wait for memory.
    pub(super) fn measure(&mut self, now: Instant, runnable: f64, waiting: f64) -> Pressure {
        match self {
            PressureSource::Told(file) => {
                let text = fs::read_to_string(file).unwrap_or_default();
                parse_pressure(&text).unwrap_or_default()
            }
            PressureSource::SwapActivity { last } => {
                let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
                let Some(pages) = parse_swapped_in(&text) else { return Pressure::default() };
                let before = last.replace((pages, now));
                before.map_or(Pressure::default(), |(before, at)| {
                    by_swapping(pages.saturating_sub(before), now.saturating_duration_since(at))
                })
            }
            PressureSource::Waiting => by_waiting(runnable, waiting),
        }
    }
}

/// The outermost group that is not the machine's.
fn outermost(groups: &[GroupPath]) -> Option<PathBuf> {
    let mut levels =
        groups.iter().filter(|path| path.version == GroupVersion::V2).flat_map(|path| &path.levels);
    levels.rfind(|level| level.join(NOT_AT_ROOT).exists()).cloned()
}

fn by_swapping(pages: u64, time: Duration) -> Pressure {
    let share = pages as f64 / time.as_secs_f64().max(0.001) / SWAPPED_IN_FULL;
    let some = (share.min(1.0) * 1000.0) as u16;
    Pressure { some, full: some / 2 }
}

fn by_waiting(runnable: f64, waiting: f64) -> Pressure {
    if waiting <= 0.0 || runnable <= 0.0 {
        return Pressure::default();
    }
    // Somebody waits all the time as soon as one of them is always waiting; everybody does where nobody else has work.
    let share = |part: f64| (part.clamp(0.0, 1.0) * 1000.0) as u16;
    Pressure { some: share(waiting), full: share((waiting - (runnable - waiting)).max(0.0) / runnable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fallbacks_say_the_same_in_their_way() {
        assert_eq!(by_swapping(0, Duration::from_secs(1)), Pressure::default());
        assert_eq!(by_swapping(500, Duration::from_secs(1)), Pressure { some: 500, full: 250 });
        assert_eq!(by_swapping(u64::MAX, Duration::ZERO), Pressure { some: 1000, full: 500 });
        assert_eq!(by_waiting(4.0, 0.0), Pressure::default());
        assert_eq!(by_waiting(4.0, 1.0), Pressure { some: 1000, full: 0 });
        assert_eq!(by_waiting(4.0, 4.0), Pressure { some: 1000, full: 1000 });
        assert_eq!(by_waiting(4.0, 3.0), Pressure { some: 1000, full: 500 });
        assert_eq!(by_waiting(f64::NAN, f64::NAN).full, 0);
    }

    #[test]
    fn a_part_of_a_machine_never_reads_the_whole_machine() {
        let machine = procinfo::memory_info().unwrap();
        let limits = MemoryLimits::probe();
        match PressureSource::probe(View::Part, &limits, &machine) {
            PressureSource::Told(file) => assert!(file.starts_with("/sys/fs/cgroup"), "{file:?}"),
            source => assert_eq!(source, PressureSource::Waiting),
        }
    }
}
