//! The CPUs that a node may use: by the affinity of its daemon, and by the quotas of its control groups.

use procinfo::{GroupPath, GroupVersion, own_groups, parse_quota_v1, parse_quota_v2};
use rustix::thread::{CpuSet, sched_getaffinity};
use std::fs;
use std::path::{Path, PathBuf};

/// Less than the kernel can give to anybody.
const CPUS_MIN: f64 = 0.01;

/// The CPUs of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Cpus {
    /// Their numbers, ascending.
    pub allowed: Vec<usize>,
    /// The tightest quota above them, and the group that has it.
    pub quota: Option<(f64, PathBuf)>,
}

impl Cpus {
    /// Those of this process.
    pub fn own() -> Cpus {
        Cpus {
            allowed: affinity(),
            quota: tightest(&own_groups("cpu"), &|path| fs::read_to_string(path).ok()),
        }
    }

    /// How many, a fraction where there is a quota.
    pub fn count(&self) -> f64 {
        let whole = self.allowed.len().max(1) as f64;
        self.quota.as_ref().map_or(whole, |(cpus, _)| cpus.clamp(CPUS_MIN, whole))
    }
}

fn affinity() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        return (0..count).collect();
    };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// The smallest quota of the groups, whichever of them has it: each limits all that are below it.
fn tightest(groups: &[GroupPath], read: &dyn Fn(&Path) -> Option<String>) -> Option<(f64, PathBuf)> {
    let of_level = |version: GroupVersion, level: &PathBuf| {
        let text = |name: &str| read(&level.join(name));
        match version {
            GroupVersion::V1 => parse_quota_v1(&text("cpu.cfs_quota_us")?, &text("cpu.cfs_period_us")?),
            GroupVersion::V2 => parse_quota_v2(&text("cpu.max")?),
        }
    };
    let levels = groups.iter().flat_map(|path| path.levels.iter().map(|level| (path.version, level)));
    levels
        .filter_map(|(version, level)| Some((of_level(version, level)?, level.clone())))
        .min_by(|one, other| one.0.total_cmp(&other.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_tightest_quota_counts_wherever_it_is() {
        let files: HashMap<&str, &str> = HashMap::from([
            ("/a/b/cpu.cfs_quota_us", "-1"),
            ("/a/b/cpu.cfs_period_us", "100000"),
            ("/a/cpu.cfs_quota_us", "50000"),
            ("/a/cpu.cfs_period_us", "100000"),
            ("/z/cpu.max", "150000 100000"),
        ]);
        let read = |path: &Path| files.get(path.to_str()?).map(|text| (*text).to_owned());
        let group = |version, levels: &[&str]| GroupPath {
            version,
            levels: levels.iter().map(PathBuf::from).collect(),
        };
        let v1 = group(GroupVersion::V1, &["/a/b", "/a", "/"]);
        let v2 = group(GroupVersion::V2, &["/z/y", "/z"]);
        let allowed = vec![3, 4];
        for (groups, count) in [
            (vec![v1.clone(), v2.clone()], 0.5),
            (vec![v2], 1.5),
            (vec![group(GroupVersion::V1, &["/a/b"])], 2.0),
            (vec![], 2.0),
        ] {
            let cpus = Cpus { allowed: allowed.clone(), quota: tightest(&groups, &read) };
            assert_eq!(cpus.count(), count, "{groups:?}");
        }
        let large = Cpus { allowed, quota: Some((1e300, PathBuf::new())) };
        assert_eq!(large.count(), 2.0);
        assert_eq!(Cpus { quota: Some((0.0, PathBuf::new())), ..large }.count(), CPUS_MIN);
    }

    #[test]
    fn this_process_has_cpus() {
        let cpus = Cpus::own();
        assert!(!cpus.allowed.is_empty() && cpus.count() > 0.0);
    }
}
