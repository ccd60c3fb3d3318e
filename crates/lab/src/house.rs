//! A node's file system: the machine's own, seen through an overlay, with private rooms.
//!
//! Below lies the root of the machine (or another), which nobody writes to; on top lies a layer of
//! the node's own on the supervisor's tmpfs. So every file of the node can be changed, and no change
//! reaches the machine or another node. Directories in which nodes must *differ* are fresh.

use crate::accounts;
use crate::cgroup::{self, Hierarchy, Version};
use crate::error::{Doing, Error, Result};
use crate::plan::{NodePlan, Plan};
use crate::state;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, mknod, stat};
use nix::unistd::{chdir, pivot_root};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// Where a node sees the directory of our programs.
pub(crate) const PROGRAMS: &str = "/opt/openmosix/bin";
/// Where a node looks for programs.
pub(crate) const SEARCH_PATH: &str =
    "/opt/openmosix/bin:/opt/openmosix/names:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a node sees our programs under other names.
const NAMES: &str = "/opt/openmosix/names";
/// The tools under their classic names: links to `om`, which knows itself by the name it is called by.
const CLASSIC_NAMES: &[&str] = &[
    "mosrun",
    "migrate",
    "mps",
    "mtop",
    "mosmon",
    "mosctl",
    "nomig",
    "runhome",
    "runon",
    "cpujob",
    "iojob",
    "nodecay",
    "slowdecay",
    "fastdecay",
    "showmap",
    "setpe",
    "tune",
];

/// Directories that are empty in a new node, and their modes.
const PRIVATE: &[(&str, u32)] = &[
    ("/run", 0o755),
    ("/tmp", 0o1777),
    ("/home", 0o755),
    ("/root", 0o700),
    ("/var/tmp", 0o1777),
    ("/var/lib/openmosix", 0o755),
    ("/var/cache/openmosix", 0o755),
    ("/var/log/openmosix", 0o755),
    ("/etc/openmosix", 0o755),
];

/// Devices a node has, where the machine has them.
const DEVICES: &[&str] =
    &["null", "zero", "full", "random", "urandom", "tty", "fuse", "userfaultfd", "kvm", "net/tun"];

/// File systems of the machine that a node has its own of, or no use for.
const NOT_SHOWN: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

const NO_DATA: Option<&str> = None;

/// Builds the node's file system and makes it this process's root. On failure the process is
/// somewhere between the two, and good for nothing but to end.
pub(crate) fn move_in(plan: &Plan, node: &NodePlan) -> Result<()> {
    mount(NO_DATA, "/", NO_DATA, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO_DATA)
        .doing(|| "make mounts private".to_owned())?;
    let hierarchies = cgroup::hierarchies()?;
    let programs = take(&plan.programs)?;
    let known = known_devices();
    let shown = if plan.root == Path::new("/") { other_file_systems()? } else { Vec::new() };
    let root = lay_over(plan, node)?;
    chdir(&root).doing(|| format!("enter {}", root.display()))?;
    // The old root ends up on top of the new one, and is taken away from there: pivot_root(2).
    pivot_root(".", ".").doing(|| "change the root".to_owned())?;
    umount2(".", MntFlags::MNT_DETACH).doing(|| "leave the old root".to_owned())?;
    chdir("/").doing(|| "enter the new root".to_owned())?;

    for (path, mount) in shown {
        // A place that only exists inside one of the private rooms is no loss.
        if path.exists() && !hidden(&path) {
            place(&mount, &path)?;
        }
    }
    for (path, mode) in PRIVATE {
        fresh(path, &format!("mode={mode:o}"))?;
    }
    devices(&known)?;
    make_directory("/proc")?;
    mount(Some("proc"), "/proc", Some("proc"), quiet(), NO_DATA).doing(|| "mount /proc".to_owned())?;
    make_directory("/sys")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), quiet(), NO_DATA).doing(|| "mount /sys".to_owned())?;
    groups(&hierarchies);
    make_directory(PROGRAMS)?;
    place(&programs, Path::new(PROGRAMS))?;
    make_directory(NAMES)?;
    for name in CLASSIC_NAMES {
        let link = format!("{NAMES}/{name}");
        symlink(format!("{PROGRAMS}/om"), &link).doing(|| format!("make {link}"))?;
    }
    furnish(plan, node)
}

fn quiet() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

/// Mounts the overlay; returns where.
fn lay_over(plan: &Plan, node: &NodePlan) -> Result<PathBuf> {
    let base = state::directory(&plan.name).join(&node.name);
    let [upper, work, root] = ["upper", "work", "root"].map(|name| base.join(name));
    for path in [&upper, &work, &root] {
        fs::create_dir(path).doing(|| format!("make {}", path.display()))?;
    }
    // The root directory's mode is the upper layer's.
    let permissions = Permissions::from_mode(0o755);
    fs::set_permissions(&upper, permissions).doing(|| format!("change {}", upper.display()))?;
    let text = |path: &Path| path.to_str().filter(|text| !text.contains([',', ':', '\\'])).map(str::to_owned);
    let Some(lower) = text(&plan.root) else {
        let path = plan.root.display();
        return Err(Error::Setup(format!("the root {path} has a comma, a colon or a backslash in its name")));
    };
    let data = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(data.as_str()))
        .doing(|| format!("lay an overlay over {lower}"))?;
    Ok(root)
}

/// A private copy of the mount that shows `path`, to be placed elsewhere.
fn take(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, path, flags).doing(|| format!("take {} along", path.display()))
}

fn place(tree: &OwnedFd, path: &Path) -> Result<()> {
    let doing = || format!("show {}", path.display());
    move_mount(tree, "", rustix::fs::CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).doing(doing)?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NO_DATA, path, NO_DATA, flags, NO_DATA).doing(doing)
}

fn hidden(path: &Path) -> bool {
    let own = ["/proc", "/sys", "/dev"];
    PRIVATE.iter().map(|(room, _)| *room).chain(own).any(|room| path.starts_with(room))
}

/// The machine's further disks: an overlay shows only the one its lower directory is on.
fn other_file_systems() -> Result<Vec<(PathBuf, OwnedFd)>> {
    let table = fs::read_to_string("/proc/self/mountinfo").doing(|| "read the mount table".to_owned())?;
    let mut shown = Vec::new();
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let kind = right.split(' ').next().unwrap_or_default();
        let path = PathBuf::from(left.split(' ').nth(4).unwrap_or_default());
        // Names with blanks are escaped in the table; such mounts are rare and left out.
        if path == Path::new("/") || NOT_SHOWN.contains(&kind) || hidden(&path) || !path.exists() {
            continue;
        }
        shown.push((path.clone(), take(&path)?));
    }
    Ok(shown)
}

fn make_directory(path: &str) -> Result<()> {
    fs::create_dir_all(path).doing(|| format!("make {path}"))
}

fn fresh(path: &str, data: &str) -> Result<()> {
    make_directory(path)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(data)).doing(|| format!("mount a tmpfs on {path}"))
}

/// Devices of the machine, to be made again: name, type and mode, number.
fn known_devices() -> Vec<(&'static str, FileStat)> {
    DEVICES.iter().filter_map(|name| Some((*name, stat(&Path::new("/dev").join(name)).ok()?))).collect()
}

fn devices(known: &[(&str, FileStat)]) -> Result<()> {
    make_directory("/dev")?;
    // Not through `fresh`: devices on it must work.
    mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=0755"))
        .doing(|| "mount a tmpfs on /dev".to_owned())?;
    make_directory("/dev/net")?;
    make_directory("/dev/pts")?;
    for (name, device) in known {
        let path = Path::new("/dev").join(name);
        let doing = || format!("make {}", path.display());
        let mode = Permissions::from_mode(device.st_mode & 0o7777);
        mknod(&path, SFlag::S_IFCHR, Mode::empty(), device.st_rdev).doing(doing)?;
        fs::set_permissions(&path, mode).doing(doing)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some("devpts"),
        "/dev/pts",
        Some("devpts"),
        flags,
        Some("newinstance,ptmxmode=0666,mode=0620,gid=5"),
    )
    .doing(|| "mount /dev/pts".to_owned())?;
    fresh("/dev/shm", "mode=1777")?;
    let links = [
        ("pts/ptmx", "/dev/ptmx"),
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (target, link) in links {
        symlink(target, link).doing(|| format!("make {link}"))?;
    }
    Ok(())
}

/// The node's own view of the cgroups, whose root is its own group. Without it programs only see
/// less of their limits, so a hierarchy that will not mount is left out.
fn groups(hierarchies: &[Hierarchy]) {
    if !hierarchies.is_empty() && fresh("/sys/fs/cgroup", "mode=0755").is_err() {
        return;
    }
    for tree in hierarchies {
        let (kind, data) = match tree.version {
            Version::V1 => ("cgroup", Some(tree.mount_options())),
            Version::V2 => ("cgroup2", None),
        };
        if fs::create_dir_all(&tree.mount_point).is_ok() {
            let _ = mount(Some(kind), &tree.mount_point, Some(kind), quiet(), data.as_deref());
        }
    }
}

/// Puts the node's own files in place.
fn furnish(plan: &Plan, node: &NodePlan) -> Result<()> {
    make_directory("/etc")?;
    make_directory("/run/lock")?;
    write("/etc/hostname", 0o644, &format!("{}\n", node.name))?;
    write("/etc/hosts", 0o644, &plan.hosts)?;
    for (name, mode, content) in &node.files {
        write(&format!("/etc/openmosix/{name}"), *mode, content)?;
    }
    // The private /home is empty, and a login without a home is of little use.
    for account in accounts::read(Path::new("/")).accounts {
        if account.home.starts_with("/home") && fs::create_dir_all(&account.home).is_ok() {
            let _ = chown(&account.home, Some(account.uid), Some(account.gid));
        }
    }
    Ok(())
}

fn write(path: &str, mode: u32, content: &str) -> Result<()> {
    let doing = || format!("write {path}");
    // The file below may be a link out of /etc, or readable by all: never write through it.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).doing(doing)?;
    file.write_all(content.as_bytes()).doing(doing)
}
