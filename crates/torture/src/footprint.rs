//! What a node is made of besides the command: torture must leave all of it as it was.

use crate::aspect::Aspect;
use lab::NodeState;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long the last agents and their namespaces may take to be gone; nothing tells when the last one is.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes that a daemon's memory may grow in one torture: what its allocator keeps for next time.
const DAEMON_GROWTH_BYTES_MAX: u64 = 16 << 20;
const PAGE_BYTES: u64 = 4096;
/// The group of all labs of this machine.
const LABS: &str = "openmosix-lab";

/// One node's, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    node: String,
    /// What there is, and how often.
    facts: BTreeMap<String, usize>,
    /// Memory of the daemon, bytes.
    pub(crate) daemon_bytes: u64,
}

impl Footprint {
    /// Every node's. Nobody may be moving anything.
    pub(crate) fn of_all(lab: &str, nodes: &[NodeState]) -> Vec<Footprint> {
        nodes.iter().map(|node| Footprint::of(lab, node)).collect()
    }

    fn of(lab: &str, node: &NodeState) -> Footprint {
        let mut footprint = Footprint { node: node.name.clone(), facts: BTreeMap::new(), daemon_bytes: 0 };
        let proc = node.seen_from_outside("/proc");
        footprint.processes(&proc);
        let init = Path::new("/proc").join(node.init.pid.to_string());
        let mounts = fs::read_to_string(init.join("mountinfo")).unwrap_or_default();
        mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .for_each(|at| footprint.add(format!("mount {at}")));
        let links = fs::read_to_string(init.join("net/dev")).unwrap_or_default();
        links
            .lines()
            .filter_map(|line| line.split_once(':'))
            .for_each(|(name, _)| footprint.add(format!("network interface {}", name.trim())));
        footprint.files(&node.seen_from_outside("/run/openmosix"), "file /run/openmosix");
        footprint.cgroups(&node.seen_from_outside("/sys/fs/cgroup"), lab);
        footprint
    }

    fn add(&mut self, fact: String) {
        *self.facts.entry(fact).or_default() += 1;
    }

    fn processes(&mut self, proc: &Path) {
        let mut namespaces = BTreeSet::new();
        let entries = fs::read_dir(proc).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids {
            let directory = proc.join(pid.to_string());
            let Ok(stat) = procinfo::stat_in(proc, pid) else { continue };
            let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
            let name = name.trim();
            self.add(format!("process {name}, state {}", if stat.state == b'Z' { "dead" } else { "living" }));
            let spaces = fs::read_dir(directory.join("ns")).into_iter().flatten().flatten();
            namespaces.extend(spaces.filter_map(|space| fs::read_link(space.path()).ok()));
            if name == "omd" {
                let count = |what: &str| fs::read_dir(directory.join(what)).into_iter().flatten().count();
                self.facts.insert("descriptors of the daemon".to_owned(), count("fd"));
                self.facts.insert("threads of the daemon".to_owned(), count("task"));
                self.daemon_bytes = stat.resident_pages * PAGE_BYTES;
            }
        }
        namespaces.iter().for_each(|space| self.add(format!("namespace {}", space.display())));
    }

    fn files(&mut self, directory: &Path, shown: &str) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = format!("{shown}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.files(&entry.path(), &name);
            } else {
                self.add(name);
            }
        }
    }

    /// The groups of this lab; those of guests are found by [`groups_of`].
    fn cgroups(&mut self, root: &Path, lab: &str) {
        walk(root, &mut |path| {
            if path.iter().skip_while(|part| *part != LABS).nth(1).is_some_and(|name| name == lab) {
                self.add(format!("cgroup {}", path.display()));
            }
        });
    }

    /// What is there now and was not before, or the other way round: what it is about, and in words.
    fn changes(&self, now: &Footprint) -> Vec<(Aspect, String)> {
        let names: BTreeSet<&String> = self.facts.keys().chain(now.facts.keys()).collect();
        let count = |facts: &BTreeMap<String, usize>, name: &String| facts.get(name).copied().unwrap_or(0);
        let mut changes = Vec::new();
        for name in names {
            let (before, after) = (count(&self.facts, name), count(&now.facts, name));
            if before != after {
                let text = format!("{}: {name}: {before} before, {after} after", self.node);
                changes.push((Aspect::Remains, text));
            }
        }
        if now.daemon_bytes > self.daemon_bytes + DAEMON_GROWTH_BYTES_MAX {
            let text = format!(
                "{}: memory of the daemon: {} bytes before, {} after",
                self.node, self.daemon_bytes, now.daemon_bytes
            );
            changes.push((Aspect::DaemonMemory, text));
        }
        changes
    }
}

/// The groups that guests of these sessions have left. Other labs have such groups in the same place.
pub(crate) fn groups_of(sessions: &BTreeSet<String>, node: &NodeState) -> Vec<(Aspect, String)> {
    let mut left = Vec::new();
    walk(&node.seen_from_outside("/sys/fs/cgroup"), &mut |path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| sessions.contains(&name)) {
            left.push((Aspect::Remains, format!("cgroup {} of a guest", path.display())));
        }
    });
    left
}

/// Every directory below one.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path());
            walk(&entry.path(), visit);
        }
    }
}

/// Looks until nothing changes any more between two looks, or patience ends; the last look.
pub(crate) fn settled(look: impl Fn() -> Vec<Footprint>) -> Vec<Footprint> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = look();
    loop {
        thread::sleep(LOOK_EVERY);
        let now = look();
        if before.iter().zip(&now).all(|(a, b)| a.facts == b.facts) || Instant::now() > deadline {
            return now;
        }
        before = now;
    }
}

/// Looks until everything is as it was before, or patience ends; what is different then, and the last look.
pub(crate) fn remains(
    before: &[Footprint],
    look: impl Fn() -> Vec<Footprint>,
) -> (Vec<(Aspect, String)>, Vec<Footprint>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = look();
        let changes: Vec<_> = before.iter().zip(&now).flat_map(|(before, now)| before.changes(now)).collect();
        if changes.is_empty() || Instant::now() > deadline {
            return (changes, now);
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_told() {
        let facts = BTreeMap::from([("mount /".to_owned(), 1), ("descriptors of the daemon".to_owned(), 9)]);
        let before = Footprint { node: "n1".to_owned(), facts, daemon_bytes: 1 << 20 };
        assert!(before.changes(&before.clone()).is_empty());
        let mut now = before.clone();
        now.facts.insert("descriptors of the daemon".to_owned(), 10);
        now.facts.insert("process omd-keeper, state living".to_owned(), 2);
        now.facts.remove("mount /");
        now.daemon_bytes = 64 << 20;
        let changes = before.changes(&now);
        let of_memory: Vec<_> = changes.iter().filter(|(about, _)| *about == Aspect::DaemonMemory).collect();
        assert_eq!(of_memory.len(), 1, "{changes:?}");
        let told = changes.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n");
        for wanted in [
            "n1: descriptors of the daemon: 9 before, 10 after",
            "n1: process omd-keeper, state living: 0 before, 2 after",
            "n1: mount /: 1 before, 0 after",
            "n1: memory of the daemon: 1048576 bytes before, 67108864 after",
        ] {
            assert!(told.contains(wanted), "{wanted:?} is not in {told}");
        }
    }
}
