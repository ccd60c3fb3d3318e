//! The nodes' control groups, by either version of the interface: what limits their CPUs and their memory, and what
//! holds the groups that daemons make for their guests, so that those go when the node goes.
//!
//! A node has a group `openmosix-lab/LAB/NODE` at the root of each hierarchy that limits something. Where none can be
//! made, a node that is not to be limited does without. Groups are found again by these names alone.

use crate::error::{Doing, Error, Result};
use crate::shared;
use crate::spec::{CpuShare, Memory};
use nix::errno::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const TREE: &str = "openmosix-lab";
/// Where the node's daemon puts the node's processes, once it hands controllers down (version 2).
const LEAF: &str = "omd";
/// What daemons limit guests by.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The kernel's usual period of CPU quotas, microseconds.
const PERIOD_US: u64 = 100_000;
/// Tries to remove a group whose last process is on its way out, 10 ms apart.
const REMOVAL_TRIES_MAX: u32 = 500;
/// How deep groups may lie in a lab's: LAB/NODE/openmosix/SESSION, and some more.
const DEPTH_MAX: usize = 8;

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) mount_point: PathBuf,
    pub(crate) version: Version,
    /// Version 1: the controllers. Version 2: what its root offers.
    controllers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl Hierarchy {
    /// What to ask of the kernel to have this hierarchy of version 1 mounted once more.
    pub(crate) fn mount_options(&self) -> String {
        let general = |option: &&String| {
            let option = option.as_str();
            matches!(option, "rw" | "ro" | "xattr" | "clone_children") || option.starts_with("release_agent=")
        };
        let kept: Vec<_> =
            self.controllers.iter().filter(|option| !general(option)).map(String::as_str).collect();
        kept.join(",")
    }
}

/// The hierarchies of this mount namespace.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let table = fs::read_to_string("/proc/self/mountinfo").doing(|| "read the mount table".to_owned())?;
    Ok(table.lines().filter_map(read_mount).collect())
}

fn read_mount(line: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mount_point = PathBuf::from(left.split(' ').nth(4)?);
    let mut right = right.split(' ');
    let (version, controllers) = match right.next()? {
        "cgroup" => (Version::V1, right.nth(1)?.split(',').map(str::to_owned).collect()),
        "cgroup2" => {
            let offered = fs::read_to_string(mount_point.join("cgroup.controllers")).unwrap_or_default();
            (Version::V2, offered.split_whitespace().map(str::to_owned).collect())
        }
        _ => return None,
    };
    Some(Hierarchy { mount_point, version, controllers })
}

/// Makes the groups of one node; the paths are those its processes are to join.
pub(crate) fn create(lab: &str, node: &str, cpus: CpuShare, memory: Option<Memory>) -> Result<Vec<PathBuf>> {
    let mut joined = Vec::new();
    if let Some(percent) = cpus.quota() {
        let (version, path) = group("cpu", "the fraction in --cpus", lab, node)?;
        let quota = u64::from(percent) * PERIOD_US / 100;
        match version {
            Version::V1 => {
                set(&path, "cpu.cfs_period_us", PERIOD_US.to_string())?;
                set(&path, "cpu.cfs_quota_us", quota.to_string())?;
            }
            Version::V2 => set(&path, "cpu.max", format!("{quota} {PERIOD_US}"))?,
        }
        joined.push(path);
    }
    if let Some(Memory { bytes }) = memory {
        let (version, path) = group("memory", "--mem", lab, node)?;
        match version {
            Version::V1 => {
                set(&path, "memory.limit_in_bytes", bytes.to_string())?;
                // Without accounting of swap the file is absent, and the limit above is all there is.
                if path.join("memory.memsw.limit_in_bytes").exists() {
                    set(&path, "memory.memsw.limit_in_bytes", bytes.to_string())?;
                }
            }
            Version::V2 => {
                set(&path, "memory.max", bytes.to_string())?;
                if path.join("memory.swap.max").exists() {
                    set(&path, "memory.swap.max", "0".to_owned())?;
                }
            }
        }
        if !joined.contains(&path) {
            joined.push(path);
        }
    }
    for controller in CONTROLLERS {
        // Nothing was asked of it: where there is none, guests of this node are not limited.
        if let Ok((_, path)) = group(controller, "guests", lab, node)
            && !joined.contains(&path)
        {
            joined.push(path);
        }
    }
    Ok(joined)
}

/// The groups a node has, for those who enter it later.
pub(crate) fn existing(lab: &str, node: &str) -> Result<Vec<PathBuf>> {
    let paths = hierarchies()?.into_iter().map(|tree| {
        let path = tree.mount_point.join(TREE).join(lab).join(node);
        let leaf = path.join(LEAF);
        if tree.version == Version::V2 && leaf.is_dir() { leaf } else { path }
    });
    Ok(paths.filter(|path| path.is_dir()).collect())
}

/// The file of a group by which a process with one thread joins it. That of version 1 needs no RCU grace period, which
/// moving a whole process waits for in both versions.
pub(crate) fn door(group: &Path) -> PathBuf {
    let tasks = group.join("tasks");
    if tasks.exists() { tasks } else { group.join("cgroup.procs") }
}

fn group(
    controller: &'static str,
    option: &'static str,
    lab: &str,
    node: &str,
) -> Result<(Version, PathBuf)> {
    let offers = |tree: &Hierarchy| tree.controllers.iter().any(|offered| offered == controller);
    let Some(tree) = hierarchies()?.into_iter().find(offers) else {
        return Err(Error::NoController { controller, option });
    };
    let path = tree.mount_point.join(TREE).join(lab).join(node);
    shared::make(&path).doing(|| format!("make the cgroup {}", path.display()))?;
    if tree.version == Version::V2 {
        // Version 2 hands a controller down one level at a time.
        let top = tree.mount_point.join(TREE);
        for parent in [&tree.mount_point, &top, &top.join(lab)] {
            set(parent, "cgroup.subtree_control", format!("+{controller}"))?;
        }
    }
    Ok((tree.version, path))
}

fn set(group: &Path, name: &str, value: String) -> Result<()> {
    let path = group.join(name);
    fs::write(&path, &value).doing(|| format!("write '{value}' to {}", path.display()))
}

/// Removes every group of a lab whose processes are dead.
pub(crate) fn remove(lab: &str) -> Result<()> {
    for tree in hierarchies()? {
        let top = tree.mount_point.join(TREE);
        let path = top.join(lab);
        if path.is_dir() {
            remove_groups(&path, 0)?;
        }
        shared::remove_if_empty(&top);
    }
    Ok(())
}

/// Removes a group and all groups in it: the lab's, its nodes', what their daemons made.
fn remove_groups(path: &Path, depth: usize) -> Result<()> {
    if depth < DEPTH_MAX {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_groups(&entry.path(), depth + 1)?;
            }
        }
    }
    remove_group(path)
}

fn remove_group(path: &Path) -> Result<()> {
    for _ in 0..REMOVAL_TRIES_MAX {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other.doing(|| format!("remove the cgroup {}", path.display())),
        }
        // Version 1 has no event for "empty", and a dead process leaves a moment after its end is seen.
        thread::sleep(Duration::from_millis(10));
    }
    Err(Errno::EBUSY).doing(|| format!("remove the cgroup {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_read() {
        let line = "25 30 0:20 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,xattr,cpu,cpuacct";
        let tree = read_mount(line).unwrap();
        assert_eq!((tree.version, tree.mount_options().as_str()), (Version::V1, "cpu,cpuacct"));
        assert_eq!(tree.mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        let line = "25 30 0:20 / /nowhere rw,relatime - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(read_mount(line).map(|tree| tree.version), Some(Version::V2));
        assert_eq!(read_mount("25 30 0:20 / /proc rw,relatime - proc proc rw"), None);
    }
}
