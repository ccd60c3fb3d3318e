//! The memory of a node: the machine's, or what the limits of its control groups leave of it.

use procinfo::{GroupPath, GroupVersion, MemoryInfo, own_groups, parse_reclaimable};
use std::fs;
use std::path::{Path, PathBuf};

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that the node has.
    pub total: u64,
    /// What nothing uses, not even a cache.
    pub free: u64,
    /// What programs could get without swapping.
    pub available: u64,
}

/// A group with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    bytes: u64,
    used: u64,
    /// Of what is used: caches that can be given up.
    reclaimable: u64,
}

/// Where the limits of a node's memory are; limits that come later are seen when it is probed again.
#[derive(Clone, Debug)]
pub(crate) struct MemoryLimits {
    levels: Vec<(GroupVersion, PathBuf)>,
}

impl MemoryLimits {
    /// Finds the groups above this process that limit something.
    pub(crate) fn probe() -> MemoryLimits {
        MemoryLimits::of(&own_groups("memory"))
    }

    /// Those of one directory, by either version.
    #[cfg(test)]
    pub(super) fn at(level: &Path) -> MemoryLimits {
        let path = |version| GroupPath { version, levels: vec![level.to_owned()] };
        MemoryLimits::of(&[path(GroupVersion::V2), path(GroupVersion::V1)])
    }

    fn of(groups: &[GroupPath]) -> MemoryLimits {
        let levels =
            groups.iter().flat_map(|path| path.levels.iter().map(|level| (path.version, level.clone())));
        let limited = |(version, level): &(GroupVersion, PathBuf)| read_limit(*version, level).is_some();
        MemoryLimits { levels: levels.filter(limited).collect() }
    }

    /// The innermost group with a limit that is one on this machine.
    pub(super) fn innermost(&self, machine: &MemoryInfo) -> Option<(GroupVersion, &Path)> {
        let level = |(version, level): &(GroupVersion, PathBuf)| {
            read_limit(*version, level).is_some_and(|bytes| bytes < machine.total)
        };
        self.levels
            .iter()
            .find(|candidate| level(candidate))
            .map(|(version, path)| (*version, path.as_path()))
    }

    /// The memory of the node now.
    pub(crate) fn measure(&self, machine: &MemoryInfo) -> Memory {
        let limits: Vec<Limit> = self
            .levels
            .iter()
            .filter_map(|(version, level)| {
                let bytes = read_limit(*version, level).filter(|bytes| *bytes < machine.total)?;
                Some(read_use(*version, level, bytes))
            })
            .collect();
        within(machine, &limits)
    }
}

/// What all limits together leave of the machine's memory.
fn within(machine: &MemoryInfo, limits: &[Limit]) -> Memory {
    let start = Memory { total: machine.total, free: machine.free, available: machine.available };
    limits.iter().fold(start, |memory, limit| {
        let free = limit.bytes.saturating_sub(limit.used);
        Memory {
            total: memory.total.min(limit.bytes),
            free: memory.free.min(free),
            available: memory
                .available
                .min(free.saturating_add(limit.reclaimable.min(limit.used)).min(limit.bytes)),
        }
    })
}

fn read_limit(version: GroupVersion, level: &Path) -> Option<u64> {
    let name = match version {
        GroupVersion::V1 => "memory.limit_in_bytes",
        GroupVersion::V2 => "memory.max",
    };
    // "max" is no number and no limit.
    fs::read_to_string(level.join(name)).ok()?.trim().parse().ok()
}

fn read_use(version: GroupVersion, level: &Path, bytes: u64) -> Limit {
    let name = match version {
        GroupVersion::V1 => "memory.usage_in_bytes",
        GroupVersion::V2 => "memory.current",
    };
    let read = |name: &str| fs::read_to_string(level.join(name)).unwrap_or_default();
    Limit {
        bytes,
        used: read(name).trim().parse().unwrap_or(0),
        reclaimable: parse_reclaimable(version, &read("memory.stat")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: MemoryInfo = MemoryInfo { total: 1000, free: 100, available: 600, swapped: 0 };

    #[test]
    fn every_limit_counts() {
        let limit = |bytes, used, reclaimable| Limit { bytes, used, reclaimable };
        for (limits, total, free, available) in [
            (vec![], 1000, 100, 600),
            (vec![limit(500, 480, 0)], 500, 20, 20),
            (vec![limit(500, 480, 200)], 500, 20, 220),
            (vec![limit(500, 480, 200), limit(400, 100, 0)], 400, 20, 220),
            // More is used than allowed, and caches larger than all that is used.
            (vec![limit(500, 700, u64::MAX)], 500, 0, 500),
        ] {
            assert_eq!(within(&MACHINE, &limits), Memory { total, free, available }, "{limits:?}");
        }
    }

    #[test]
    fn both_versions_are_read_and_no_limit_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let groups = |version| [GroupPath { version, levels: vec![path.join("own"), path.clone()] }];
        fs::create_dir(path.join("own")).unwrap();
        let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
        write("own/memory.max", "max\n");
        write("memory.max", "500\n");
        write("memory.current", "400\n");
        write("memory.stat", "inactive_file 50\nactive_file 20\n");
        let limits = MemoryLimits::of(&groups(GroupVersion::V2));
        assert_eq!(limits.measure(&MACHINE), Memory { total: 500, free: 100, available: 160 });
        assert_eq!(limits.innermost(&MACHINE), Some((GroupVersion::V2, path.as_path())));
        // What version 1 shows where nothing limits.
        write("own/memory.limit_in_bytes", "9223372036854771712\n");
        let limits = MemoryLimits::of(&groups(GroupVersion::V1));
        assert_eq!(limits.measure(&MACHINE), Memory { total: 1000, free: 100, available: 600 });
        assert_eq!(limits.innermost(&MACHINE), None);
    }
}
