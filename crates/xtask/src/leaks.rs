//! What a test run must not leave behind: processes, namespaces, interfaces, cgroups, mounts, state directories.
//!
//! A snapshot is taken before the suite and compared with the machine after it. Whatever other programs of the
//! machine start meanwhile may appear too: the comparison is meant for a machine that does nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::test::RUN_MARK;

/// How long the last namespaces and cgroups may take to vanish after their last process.
const PATIENCE: Duration = Duration::from_secs(15);

/// Directories in which a daemon or a lab keeps state while it runs.
const STATE_DIRECTORIES: &[&str] = &["/run", "/tmp", "/var/lib", "/var/tmp", "/dev/shm", "/run/netns"];

/// The part of the machine's state that a test may change and must change back.
pub(crate) struct Snapshot {
    facts: BTreeSet<String>,
}

impl Snapshot {
    /// The machine as it is now. `mark` is the value of [`RUN_MARK`] in every process of this run.
    pub(crate) fn take(mark: &str) -> Snapshot {
        let mut facts = BTreeSet::new();
        processes(mark, &mut facts);
        names_in("/sys/class/net", |_| true, "network interface", &mut facts);
        cgroups(Path::new("/sys/fs/cgroup"), &mut facts);
        mounts(&mut facts);
        for directory in STATE_DIRECTORIES {
            names_in(directory, is_ours, "state", &mut facts);
        }
        Snapshot { facts }
    }

    /// What is there now and was not then; waits a while for it to vanish.
    pub(crate) fn leftovers(&self, mark: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Snapshot::take(mark);
            let new: Vec<String> = now.facts.difference(&self.facts).cloned().collect();
            if new.is_empty() || Instant::now() > deadline {
                return new;
            }
            // There is no event for "the last namespace of a dead process is gone".
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn is_ours(name: &str) -> bool {
    ["openmosix", "om-", "omd", "suite-"].iter().any(|start| name.trim_start_matches('.').starts_with(start))
}

/// Processes of this run, stopped or traced processes, and the namespaces of all.
fn processes(mark: &str, facts: &mut BTreeSet<String>) {
    let marked = format!("{RUN_MARK}={mark}");
    for process in entries(Path::new("/proc")) {
        let Some(pid) = file_name(&process).parse::<i32>().ok() else { continue };
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let name = name.trim();
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == marked.as_bytes()) {
            facts.insert(format!("process {pid} ({name}) of this test run"));
        }
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("").trim();
        if matches!(field("State:").chars().next(), Some('T' | 't'))
            || !matches!(field("TracerPid:"), "0" | "")
        {
            facts.insert(format!("stopped or traced process {pid} ({name})"));
        }
        for namespace in entries(&process.join("ns")) {
            if let Ok(identity) = fs::read_link(&namespace) {
                facts.insert(format!("namespace {}", identity.display()));
            }
        }
    }
}

fn cgroups(directory: &Path, facts: &mut BTreeSet<String>) {
    for entry in entries(directory) {
        // Symbolic links are other names of cgroup v1 controllers.
        if fs::symlink_metadata(&entry).is_ok_and(|metadata| metadata.is_dir()) {
            facts.insert(format!("cgroup {}", entry.display()));
            cgroups(&entry, facts);
        }
    }
}

fn mounts(facts: &mut BTreeSet<String>) {
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        if let Some(point) = line.split(' ').nth(4) {
            facts.insert(format!("mount {point}"));
        }
    }
}

fn names_in(directory: &str, wanted: fn(&str) -> bool, kind: &str, facts: &mut BTreeSet<String>) {
    for entry in entries(Path::new(directory)).into_iter().filter(|entry| wanted(file_name(entry))) {
        facts.insert(format!("{kind} {}", entry.display()));
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_of_the_run_is_found_and_a_stranger_is_not() {
        let mark = format!("unit-test-{}", std::process::id());
        let found =
            || Snapshot::take(&mark).facts.iter().filter(|fact| fact.contains("of this test run")).count();
        assert_eq!(found(), 0);
        let mut echo = Command::new("cat");
        let echo = echo.env(RUN_MARK, &mark).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut echo = echo.spawn().unwrap();
        // Its environment can be read once it runs; `spawn` returns while it is still being loaded.
        echo.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        echo.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(found(), 1);
        echo.kill().unwrap();
        echo.wait().unwrap();
        assert_eq!(found(), 0);
    }
}
