//! Control groups of guests: what one of them can use of its host, by either version of the interface.
//!
//! ```text
//! GROUP OF THE DAEMON/openmosix/SESSION      in each hierarchy that has one of the controllers
//! ```
//! A group is found again by these names alone: its warden makes it and removes it, and the daemon removes those whose
//! warden was killed. The warden itself is not in it, so that a guest that runs out of memory ends alone.
//!
//! Version 2 lets a group with processes have no groups with limits below it. So a daemon that finds itself in such a
//! group first moves into a leaf, [`LEAF`], and its agents are born there.

use crate::Error;
use model::Session;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Holds the groups of all guests of a daemon.
const TREE: &str = "openmosix";
/// Where daemon and agents are, in a hierarchy of version 2.
pub const LEAF: &str = "omd";
/// What guests are limited by.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// Tries to make a group while another daemon removes the common parent at just the wrong moment.
const MAKING_TRIES_MAX: u32 = 100;
/// Tries to remove a group whose last process is on its way out, 10 ms apart.
const REMOVAL_TRIES_MAX: u32 = 200;
/// Processes that a daemon moves out of its own group, at most.
const MOVED_MAX: usize = 1024;

/// What a guest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// Its share of the CPUs, 1 to 10000; 100 is everybody's.
    pub cpu_weight: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    /// The file of a group by which a process with one thread joins it.
    ///
    /// A whole process can join by `cgroup.procs` in both versions, but then the kernel first waits until no thread of
    /// any process is being made or ends: an RCU grace period, 5 to 15 ms. A thread that moves itself need not wait.
    fn door(self) -> &'static str {
        match self {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        }
    }
}

/// A hierarchy as this process finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    /// Those of [`CONTROLLERS`] that it has.
    controllers: Vec<&'static str>,
    /// The directory of this process's own group.
    own: PathBuf,
}

impl Hierarchy {
    /// The group in which the guests' groups are made.
    fn base(&self) -> &Path {
        match (self.version, self.own.parent()) {
            (Version::V2, Some(parent)) if self.own.ends_with(LEAF) => parent,
            _ => &self.own,
        }
    }

    fn group(&self, session: Session) -> PathBuf {
        self.base().join(TREE).join(session.to_string())
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The hierarchies that have one of the controllers and show this process's own group.
fn hierarchies() -> Vec<Hierarchy> {
    let (mounts, groups) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
    mounts.lines().filter_map(|line| hierarchy(line, &groups)).collect()
}

/// Reads a line of `mountinfo` (`proc(5)`) beside the text of `/proc/self/cgroup`.
fn hierarchy(line: &str, groups: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, Path::new(left.next()?));
    let mut right = right.split(' ');
    let (version, offered) = match right.next()? {
        "cgroup" => (Version::V1, right.nth(1)?.to_owned()),
        "cgroup2" => (Version::V2, String::new()),
        _ => return None,
    };
    // number:controllers:path; the controllers are empty for version 2.
    let path = groups.lines().find_map(|group| {
        let (controllers, path) = group.split_once(':')?.1.split_once(':')?;
        let ours = match version {
            Version::V1 => {
                let mut words = controllers.split(',');
                words.any(|word| CONTROLLERS.contains(&word) && offered.split(',').any(|name| name == word))
            }
            Version::V2 => controllers.is_empty(),
        };
        ours.then_some(path)
    })?;
    // A mount may show only a part of the hierarchy.
    let own = point.join(Path::new(path).strip_prefix(root).ok()?);
    let offered = match version {
        Version::V1 => offered,
        Version::V2 => {
            let base = if own.ends_with(LEAF) { own.parent()? } else { &own };
            read(base.join("cgroup.controllers")).replace([' ', '\n'], ",")
        }
    };
    let has = |name: &&'static str| offered.split(',').any(|word| word == *name);
    let controllers: Vec<_> = CONTROLLERS.into_iter().filter(has).collect();
    (!controllers.is_empty()).then_some(Hierarchy { version, controllers, own })
}

/// The files of one controller and what to write into them. Those that a kernel need not have come with `false`.
fn settings(version: Version, controller: &str, limits: &Limits) -> Vec<(&'static str, String, bool)> {
    let memory = limits.memory_bytes.to_string();
    match (version, controller) {
        // The second is memory and swap together, and may not be less than the first.
        (Version::V1, "memory") => vec![
            ("memory.limit_in_bytes", memory.clone(), true),
            ("memory.memsw.limit_in_bytes", memory, false),
        ],
        (Version::V2, "memory") => {
            vec![("memory.max", memory, true), ("memory.swap.max", "0".to_owned(), false)]
        }
        (_, "pids") => vec![("pids.max", limits.tasks.to_string(), true)],
        // 1024 is the share of an ordinary group of version 1, as 100 is the weight of one of version 2.
        (Version::V1, "cpu") => {
            vec![("cpu.shares", (limits.cpu_weight * 1024 / 100).max(2).to_string(), true)]
        }
        (Version::V2, "cpu") => vec![("cpu.weight", limits.cpu_weight.to_string(), true)],
        _ => Vec::new(),
    }
}

/// Makes the daemon's own groups ready for guests. Only version 2 asks for anything.
pub fn prepare() -> Result<(), Error> {
    for tree in hierarchies().iter().filter(|tree| tree.version == Version::V2) {
        let base = tree.base();
        if let Err(error) = hand_down(base, &tree.controllers) {
            if error.raw_os_error() != Some(nix::libc::EBUSY) {
                return Err(Error::file("hand down the controllers of", base)(error));
            }
            move_into_leaf(base).map_err(Error::file("move the daemon within", base))?;
            hand_down(base, &tree.controllers).map_err(Error::file("hand down the controllers of", base))?;
        }
    }
    Ok(())
}

fn hand_down(group: &Path, controllers: &[&str]) -> io::Result<()> {
    let words: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    fs::write(group.join("cgroup.subtree_control"), words.join(" "))
}

/// Moves this process, and, where the group is all that can be seen, everybody else in it, into a leaf of the group.
fn move_into_leaf(group: &Path) -> io::Result<()> {
    let leaf = group.join(LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let procs = leaf.join("cgroup.procs");
    fs::write(&procs, "0")?;
    let is_whole_world = read("/proc/self/cgroup").lines().any(|line| line == format!("0::/{LEAF}"));
    if is_whole_world {
        for pid in read(group.join("cgroup.procs")).lines().take(MOVED_MAX) {
            // It may have ended meanwhile.
            let _ = fs::write(&procs, pid);
        }
    }
    Ok(())
}

/// A guest's groups.
#[derive(Debug)]
pub struct Groups {
    /// The files by which a process that has one thread joins them: it writes `0`.
    pub doors: Vec<File>,
    /// Controllers that no hierarchy here has.
    pub lacking: Vec<&'static str>,
}

/// Makes a guest's groups, or finds them made. On failure [`remove`] removes what there is of them.
pub fn make(session: Session, limits: &Limits) -> Result<Groups, Error> {
    let mut groups = Groups { doors: Vec::new(), lacking: CONTROLLERS.to_vec() };
    for tree in hierarchies() {
        let path = tree.group(session);
        let fresh = make_directory(&path).map_err(Error::file("make the control group", &path))?;
        if tree.version == Version::V2 {
            let parent = tree.base().join(TREE);
            hand_down(&parent, &tree.controllers)
                .map_err(Error::file("hand down the controllers of", &parent))?;
        }
        for controller in &tree.controllers {
            for (name, value, needed) in settings(tree.version, controller, limits) {
                let file = path.join(name);
                // What was set stays: version 1 cannot raise one of its two limits on memory above the other.
                if fresh && (needed || file.exists()) {
                    fs::write(&file, value).map_err(Error::file("set", &file))?;
                }
            }
            groups.lacking.retain(|lacking| lacking != controller);
        }
        let door = path.join(tree.version.door());
        groups.doors.push(OpenOptions::new().write(true).open(&door).map_err(Error::file("open", &door))?);
    }
    Ok(groups)
}

/// Makes a group and the one above it; `false` if it was there.
fn make_directory(path: &Path) -> io::Result<bool> {
    let mut tries = 0;
    loop {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::create_dir(path) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            // The last guest of another daemon in the same group has just taken the parent away.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < MAKING_TRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// How often the kernel has killed somebody in a guest's group for want of memory.
pub fn killed_for_memory(session: Session) -> u64 {
    let count = |tree: Hierarchy| {
        let name = match tree.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = read(tree.group(session).join(name));
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
    };
    hierarchies().into_iter().filter_map(count).sum()
}

/// Removes a guest's groups once its last process has left them; those of a guest that still lives stay.
pub fn remove(session: Session) {
    for tree in hierarchies() {
        let path = tree.group(session);
        if let Err(error) = remove_group(&path) {
            tracing::warn!(group = %path.display(), %error, "a guest's control group stays behind");
        }
        // "Not empty" is as it should be: there are other guests.
        let _ = fs::remove_dir(tree.base().join(TREE));
    }
}

fn remove_group(path: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) && tries < REMOVAL_TRIES_MAX => {}
            outcome => return outcome,
        }
        tries += 1;
        // Version 1 has no event for "empty", and a dead process leaves a moment after its end is seen.
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "9:name=systemd:/\n8:pids:/a/b\n4:memory:/box/m\n1:cpu,cpuacct:/\n0::/x/omd\n";

    #[test]
    fn hierarchies_are_found_as_they_are_mounted() {
        let v1 = |controllers: &str, root: &str| {
            format!("25 30 0:20 {root} /cg rw,relatime shared:9 - cgroup cgroup rw,xattr,{controllers}")
        };
        // Where the own group is, and which controllers there are.
        type Found = (&'static str, Vec<&'static str>);
        let cases: &[(String, Option<Found>)] = &[
            (v1("pids", "/"), Some(("/cg/a/b", vec!["pids"]))),
            (v1("memory", "/box"), Some(("/cg/m", vec!["memory"]))),
            (v1("cpu,cpuacct", "/"), Some(("/cg/", vec!["cpu"]))),
            // Mounted from a place that does not hold this process.
            (v1("memory", "/other"), None),
            (v1("freezer", "/"), None),
            ("25 30 0:20 / /proc rw,relatime - proc proc rw".to_owned(), None),
            ("25 30 0:20 / /nowhere rw - cgroup2 cgroup2 rw".to_owned(), None),
            (String::new(), None),
        ];
        for (line, expected) in cases {
            let found = hierarchy(line, GROUPS);
            let found = found.map(|tree| (tree.own.to_string_lossy().into_owned(), tree.controllers));
            let expected = expected.clone().map(|(own, controllers)| (own.to_owned(), controllers));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn a_daemon_in_its_leaf_finds_the_group_above() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("x/omd")).unwrap();
        fs::write(directory.path().join("x/cgroup.controllers"), "cpu memory hugetlb pids\n").unwrap();
        let line = format!("25 30 0:20 / {} rw - cgroup2 cgroup2 rw", directory.path().display());
        let tree = hierarchy(&line, GROUPS).unwrap();
        assert_eq!(tree.base(), directory.path().join("x"));
        assert_eq!(tree.controllers, CONTROLLERS);
    }

    #[test]
    fn limits_are_written_in_each_version_own_words() {
        let limits = Limits { memory_bytes: 1 << 30, tasks: 7, cpu_weight: 50 };
        let words = |version| -> Vec<String> {
            let of = |controller| settings(version, controller, &limits);
            let all = CONTROLLERS.into_iter().flat_map(of);
            all.map(|(name, value, _)| format!("{name}={value}")).collect()
        };
        let memory = "1073741824";
        assert_eq!(
            words(Version::V1),
            [
                format!("memory.limit_in_bytes={memory}"),
                format!("memory.memsw.limit_in_bytes={memory}"),
                "pids.max=7".to_owned(),
                "cpu.shares=512".to_owned()
            ]
        );
        assert_eq!(
            words(Version::V2),
            [
                format!("memory.max={memory}"),
                "memory.swap.max=0".to_owned(),
                "pids.max=7".to_owned(),
                "cpu.weight=50".to_owned()
            ]
        );
    }

    #[test]
    fn groups_of_this_machine_are_made_and_removed() {
        let session = Session(*b"a test of groups");
        let limits = Limits { memory_bytes: 64 << 20, tasks: 3, cpu_weight: 100 };
        let groups = match make(session, &limits) {
            Ok(groups) if groups.doors.is_empty() => {
                println!("skipped: no hierarchy here has any of the controllers");
                return;
            }
            Ok(groups) => groups,
            Err(error) => {
                println!("skipped: failed to {error}");
                remove(session);
                return;
            }
        };
        if !groups.lacking.contains(&"pids") {
            let pids = hierarchies().into_iter().find(|tree| tree.controllers.contains(&"pids")).unwrap();
            assert_eq!(read(pids.group(session).join("pids.max")).trim(), "3");
        }
        // Made twice is made once.
        assert_eq!(make(session, &limits).unwrap().doors.len(), groups.doors.len());
        assert_eq!(killed_for_memory(session), 0);
        drop(groups);
        remove(session);
        assert!(hierarchies().iter().all(|tree| !tree.group(session).exists()));
    }

    /// Runs a line of shell in these groups; how it ended, and what it complained of.
    fn run_in(groups: &Groups, line: &str) -> (std::process::ExitStatus, String) {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("read go; {line}")]);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        for mut door in &groups.doors {
            door.write_all(shell.id().to_string().as_bytes()).unwrap();
        }
        shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let output = shell.wait_with_output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[test]
    fn bombs_are_held() {
        use std::os::unix::process::ExitStatusExt as _;
        let session = Session(*b"a test of bombs.");
        let groups = match make(session, &Limits { memory_bytes: 64 << 20, tasks: 8, cpu_weight: 100 }) {
            Ok(groups) if groups.lacking.is_empty() => groups,
            other => {
                println!("skipped: not all controllers can be used here: {other:?}");
                remove(session);
                return;
            }
        };
        let (status, complaint) = run_in(&groups, "for one in 1 2 3 4 5 6 7 8 9; do sleep 0.3 & done; wait");
        assert!(!status.success() && complaint.contains("fork"), "{status}: {complaint}");
        assert_eq!(killed_for_memory(session), 0);
        // It looks for the last lines of something that has none, and keeps all of it.
        let (status, complaint) = run_in(&groups, "exec tail /dev/zero");
        assert_eq!(status.signal(), Some(9), "{status}: {complaint}");
        assert_eq!(killed_for_memory(session), 1);
        drop(groups);
        remove(session);
        assert!(hierarchies().iter().all(|tree| !tree.group(session).exists()));
    }
}
