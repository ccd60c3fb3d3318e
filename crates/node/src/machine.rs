//! What this machine has: CPUs, memory, kernel; within the limits of the control group it may be in.

use std::fs;
use std::path::{Path, PathBuf};

/// Oldest kernel that can host a guest, as `(major, minor)`.
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// CPUs that this process may use.
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What this machine or its control group has.
    pub total: u64,
    /// What could still be used.
    pub free: u64,
}

/// The memory this machine has, or what its control groups (version 1 or 2) leave of it.
pub fn memory() -> Memory {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    let mut memory = Memory {
        total: kilobytes("MemTotal").unwrap_or(0) * 1024,
        free: kilobytes("MemAvailable").unwrap_or(0) * 1024,
    };
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for (limit, used) in groups.lines().flat_map(group_limits) {
        memory.total = memory.total.min(limit);
        memory.free = memory.free.min(limit.saturating_sub(used));
    }
    memory
}

/// Limit and use of the group in a line of `/proc/self/cgroup` and of all groups above it (`cgroups(7)`).
fn group_limits(line: &str) -> Vec<(u64, u64)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { return Vec::new() };
    let (root, limit, used) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
        "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        _ => return Vec::new(),
    };
    let read = |directory: &Path, name: &str| -> Option<u64> {
        fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
    };
    let mut found = Vec::new();
    let mut directory = PathBuf::from(format!("{root}/{}", group.trim_matches('/')));
    while directory.starts_with(root) {
        if let (Some(limit), Some(used)) = (read(&directory, limit), read(&directory, used)) {
            found.push((limit, used));
        }
        if !directory.pop() {
            break;
        }
    }
    found
}

/// The kernel's release.
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether a kernel of this release can host a guest.
pub fn kernel_is_fit(release: &str) -> bool {
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= KERNEL_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, fit) in [
            ("6.1.0-13-amd64", true),
            ("6.18.44", true),
            ("7.0-rc1", true),
            ("6.0.19", false),
            ("5.15.0", false),
            ("", false),
        ] {
            assert_eq!(kernel_is_fit(release), fit, "{release}");
        }
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = memory();
        assert!(memory.total > 0 && memory.free <= memory.total);
        assert!(cpus() > 0 && !kernel().is_empty());
    }

    #[test]
    fn odd_groups_are_no_limits() {
        assert!(group_limits("").is_empty());
        assert!(group_limits("3:cpu,cpuacct:/x").is_empty());
        assert!(group_limits("0::/no/such/group/../..").iter().all(|(limit, _)| *limit > 0));
    }
}
