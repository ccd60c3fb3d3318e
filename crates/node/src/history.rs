//! What is known of processes that are at home again: a keeper's last status, and which of its threads wait in the middle of
//! a wait, for as long as the process lives.
//!
//! One small file each, by pid, below the directory of sockets: it is gone after a reboot, like the processes.

use crate::Error;
use crate::config::Paths;
use crate::journal;
use crate::keeper::Parked;
use crate::process::lives;
use control::KeeperStatus;
use model::ProcessId;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// A keeper's last words.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    status: KeeperStatus,
    #[serde(default)]
    parked: Vec<Parked>,
    /// Its command name.
    #[serde(default)]
    name: String,
}

fn file(paths: &Paths, pid: i32) -> PathBuf {
    paths.history().join(format!("{pid}.json"))
}

/// Keeps a keeper's last words.
pub(crate) fn keep(paths: &Paths, status: &KeeperStatus, parked: &[Parked]) -> Result<(), Error> {
    let pid = status.process.pid;
    let name = procinfo::name(pid, pid).unwrap_or_default();
    let kept = Kept { status: status.clone(), parked: parked.to_vec(), name };
    crate::config::keep_json(&file(paths, pid), &kept, 0o600)
}

/// Drops what was kept of a process.
pub(crate) fn forget(paths: &Paths, pid: i32) {
    let _ = fs::remove_file(file(paths, pid));
}

/// What was kept of this very process.
pub(crate) fn of(paths: &Paths, process: ProcessId) -> Option<KeeperStatus> {
    known(paths, process).map(|(status, _)| status)
}

/// What a new keeper of this very process has to know.
pub(crate) fn known(paths: &Paths, process: ProcessId) -> Option<(KeeperStatus, Vec<Parked>)> {
    let kept = read(&file(paths, process.pid)).filter(|kept| kept.status.process == process)?;
    Some((kept.status, kept.parked))
}

/// What was kept of all processes that still live; the rest is dropped, and noted down.
pub(crate) fn all(paths: &Paths) -> Vec<KeeperStatus> {
    let entries = fs::read_dir(paths.history()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut living = Vec::new();
    for path in entries.filter(|path| path.extension().is_some_and(|end| end == "json")) {
        match read(&path) {
            Some(kept) if lives(kept.status.process) => living.push(kept.status),
            kept => bury(paths, &path, kept),
        }
    }
    living
}

/// Somebody who had been away has ended at home.
fn bury(paths: &Paths, path: &Path, kept: Option<Kept>) {
    // Of several that look at once, one buries it.
    if fs::remove_file(path).is_ok()
        && let Some(Kept { status, name, .. }) = kept
    {
        journal::note_end(paths, status.process, &name, status.used_away());
    }
}

fn read(path: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_dropped_and_a_pid_is_not_enough() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { run: directory.path().to_owned(), ..Paths::default() };
        let pid = std::process::id() as i32;
        let own = ProcessId { pid, start_ticks: procinfo::stat(pid).unwrap().start_ticks };
        let status = |process| KeeperStatus {
            process,
            node: model::NodeId::new(1).unwrap(),
            moving: false,
            moves: 3,
            memory_bytes: 0,
            away_cpu_ms: 0,
            forwarded: 9,
            carried_bytes: 10,
            home_comings: vec![("ioctl".to_owned(), 2)],
        };
        assert!(all(&paths).is_empty());
        keep(&paths, &status(own), &[]).unwrap();
        keep(&paths, &status(ProcessId { pid: i32::MAX, start_ticks: 1 }), &[]).unwrap();
        assert_eq!(of(&paths, own), Some(status(own)));
        assert_eq!(of(&paths, ProcessId { start_ticks: own.start_ticks + 1, ..own }), None);
        assert_eq!(all(&paths), [status(own)]);
        assert_eq!(of(&paths, ProcessId { pid: i32::MAX, start_ticks: 1 }), None);
        keep(&paths, &status(ProcessId { start_ticks: own.start_ticks + 1, ..own }), &[]).unwrap();
        assert!(all(&paths).is_empty());
    }
}
