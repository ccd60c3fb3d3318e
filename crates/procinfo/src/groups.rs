//! Where a process's control groups are, and what the files in them say (`cgroups(7)`, both versions).

use std::path::{Path, PathBuf};

/// The version of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupVersion {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// A process's own group in one hierarchy and all groups above it that can be seen, the own one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPath {
    /// The version.
    pub version: GroupVersion,
    /// The directories.
    pub levels: Vec<PathBuf>,
}

/// Groups above one another that are looked at.
const LEVELS_MAX: usize = 32;

/// This process's own groups that have to do with a controller: version 1 first.
pub fn own_groups(controller: &str) -> Vec<GroupPath> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    groups_in(controller, &read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// The same from texts like `/proc/PID/mountinfo` and `/proc/PID/cgroup`. Version 2 is always among them where it is
/// mounted: some of its files need no controller.
pub fn groups_in(controller: &str, mounts: &str, groups: &str) -> Vec<GroupPath> {
    let mut found: Vec<_> =
        mounts.lines().filter_map(|line| group_of_mount(controller, line, groups)).collect();
    found.sort_by_key(|path| path.version == GroupVersion::V2);
    found
}

fn group_of_mount(controller: &str, mount: &str, groups: &str) -> Option<GroupPath> {
    let (left, right) = mount.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, Path::new(left.next()?));
    let mut right = right.split(' ');
    let version = match right.next()? {
        "cgroup" if right.nth(1)?.split(',').any(|name| name == controller) => GroupVersion::V1,
        "cgroup2" => GroupVersion::V2,
        _ => return None,
    };
    // number:controllers:path; the controllers are empty for version 2.
    let path = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let ours = match version {
            GroupVersion::V1 => controllers.split(',').any(|name| name == controller),
            GroupVersion::V2 => controllers.is_empty(),
        };
        ours.then_some(path)
    })?;
    // A mount may show only a part of the hierarchy.
    let below = Path::new(path).strip_prefix(root).ok()?;
    let own = point.join(below);
    let levels = own.ancestors().take_while(|level| level.starts_with(point)).take(LEVELS_MAX);
    Some(GroupPath { version, levels: levels.map(Path::to_owned).collect() })
}

/// The group of a process as its `/proc/PID/cgroup` names it: that of systemd's own hierarchy, or of version 2.
pub fn parse_service_group(text: &str) -> Option<&str> {
    let path = |wanted: &str| {
        text.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            (controllers == wanted).then_some(path)
        })
    };
    path("name=systemd").filter(|path| *path != "/").or_else(|| path(""))
}

/// CPUs that `cpu.cfs_quota_us` and `cpu.cfs_period_us` allow; nothing where there is no limit.
pub fn parse_quota_v1(quota: &str, period: &str) -> Option<f64> {
    let quota: u64 = quota.trim().parse().ok()?;
    cpus(quota, period.trim().parse().ok()?)
}

/// CPUs that `cpu.max` allows; nothing where there is no limit.
pub fn parse_quota_v2(max: &str) -> Option<f64> {
    let mut words = max.split_ascii_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    cpus(quota, words.next()?.parse().ok()?)
}

fn cpus(quota: u64, period: u64) -> Option<f64> {
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// Bytes of caches that can be given up, in a text like `memory.stat`: what was not used lately, and half of the rest.
/// Version 1 counts a group alone and, with `total_`, what is below it, too.
pub fn parse_reclaimable(version: GroupVersion, stat: &str) -> u64 {
    let prefix = match version {
        GroupVersion::V1 => "total_",
        GroupVersion::V2 => "",
    };
    let number = |name: &str| crate::number_after(stat, &format!("{prefix}{name} ")).unwrap_or(0);
    number("inactive_file").saturating_add(number("active_file") / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GROUPS: &str = "9:name=systemd:/\n4:memory:/box/m\n1:cpu,cpuacct:/a/b\n0::/x/omd\n";

    fn paths(controller: &str, mounts: &str) -> Vec<(GroupVersion, Vec<String>)> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let found = groups_in(controller, mounts, GROUPS).into_iter();
        found.map(|path| (path.version, path.levels.iter().map(text).collect())).collect()
    }

    #[test]
    fn groups_are_found_up_to_the_mount() {
        let v1 = |root: &str, controllers: &str| {
            format!("25 30 0:20 {root} /cg rw shared:9 - cgroup cgroup rw,xattr,{controllers}\n")
        };
        let v2 = "25 30 0:20 / /cg2 rw - cgroup2 cgroup2 rw\n";
        let both = format!("{v2}{}", v1("/", "cpu,cpuacct"));
        assert_eq!(
            paths("cpu", &both),
            [
                (GroupVersion::V1, ["/cg/a/b", "/cg/a", "/cg"].map(str::to_owned).to_vec()),
                (GroupVersion::V2, ["/cg2/x/omd", "/cg2/x", "/cg2"].map(str::to_owned).to_vec()),
            ]
        );
        assert_eq!(
            paths("memory", &v1("/box", "memory")),
            [(GroupVersion::V1, vec!["/cg/m".into(), "/cg".into()])]
        );
        // Mounted from a place that does not hold this process; another controller; nonsense.
        assert_eq!(paths("memory", &v1("/other", "memory")), []);
        assert_eq!(paths("cpu", &v1("/", "memory")), []);
        assert_eq!(paths("cpu", "nonsense\n\n - cgroup\n 1 - cgroup2"), []);
    }

    #[test]
    fn quotas_are_fractions_and_hostile_ones_none() {
        assert_eq!(parse_quota_v1("50000\n", "100000\n"), Some(0.5));
        assert_eq!(parse_quota_v2("150000 100000\n"), Some(1.5));
        for (quota, period) in [("-1", "100000"), ("0", "100000"), ("1", "0"), ("", ""), ("x", "1")] {
            assert_eq!(parse_quota_v1(quota, period), None, "{quota} {period}");
        }
        for max in ["max 100000", "max", "1", "1 0", "-5 100", "", "99999999999999999999999 1"] {
            assert_eq!(parse_quota_v2(max), None, "{max}");
        }
    }

    #[test]
    fn reclaimable_caches_by_either_version() {
        let stat = "inactive_file 100\nactive_file 10\ntotal_inactive_file 700\ntotal_active_file 20\n";
        assert_eq!(parse_reclaimable(GroupVersion::V1, stat), 710);
        assert_eq!(parse_reclaimable(GroupVersion::V2, stat), 105);
        assert_eq!(parse_reclaimable(GroupVersion::V2, ""), 0);
        let most = format!("inactive_file {0}\nactive_file {0}\n", u64::MAX);
        assert_eq!(parse_reclaimable(GroupVersion::V2, &most), u64::MAX);
    }

    #[test]
    fn services_are_named_by_their_group() {
        assert_eq!(
            parse_service_group("3:cpu:/a\n1:name=systemd:/system.slice/x.service\n0::/y"),
            Some("/system.slice/x.service")
        );
        assert_eq!(parse_service_group("1:name=systemd:/\n0::/user.slice"), Some("/user.slice"));
        assert_eq!(parse_service_group("0::/init.scope\n"), Some("/init.scope"));
        assert_eq!(parse_service_group("nonsense"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_them_panic(one in "[ :/,a-z0-9\n-]{0,120}", other in "[ :/,a-z0-9\n-]{0,120}") {
            let _ = groups_in("cpu", &one, &other);
            let _ = (parse_quota_v1(&one, &other), parse_quota_v2(&one), parse_service_group(&one));
        }
    }
}
