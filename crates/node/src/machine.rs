//! What this machine has: CPUs, memory, kernel; within the limits of the control group it may be in.

use crate::measure::{Memory, MemoryLimits};

/// Oldest kernel that can host a guest, as `(major, minor)`.
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// CPUs that this process may use.
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

/// The memory that this machine has, or what its control groups (version 1 or 2) leave of it; nothing where that cannot be
/// read.
pub fn memory() -> Memory {
    procinfo::memory_info().map(|machine| MemoryLimits::probe().measure(&machine)).unwrap_or_default()
}

/// The kernel's release.
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Major, minor and patch of a release; 0 for what it does not tell.
pub fn numbers(release: &str) -> [u32; 3] {
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

/// Whether a kernel of this release can host a guest.
pub fn kernel_is_fit(release: &str) -> bool {
    let [major, minor, _] = numbers(release);
    (major, minor) >= KERNEL_MIN
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
        assert!(memory.total > 0 && memory.available <= memory.total);
        assert!(cpus() > 0 && !kernel().is_empty());
    }
}
