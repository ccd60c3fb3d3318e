//! What is known of processes that are at home again: a keeper's last status, for as long as the process lives.
//!
//! One small file each, by pid, below the directory of sockets: it is gone after a reboot, like the processes.

use crate::Error;
use crate::config::Paths;
use crate::process::lives;
use control::KeeperStatus;
use model::ProcessId;

use std::fs;
use std::path::{Path, PathBuf};

fn file(paths: &Paths, pid: i32) -> PathBuf {
    paths.history().join(format!("{pid}.json"))
}

/// Keeps a keeper's last words.
pub(crate) fn keep(paths: &Paths, status: &KeeperStatus) -> Result<(), Error> {
    let directory = paths.history();
    fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
    let text = serde_json::to_string(status).map_err(|error| Error::Line(error.to_string()))?;
    crate::config::write_file(&file(paths, status.process.pid), &text, 0o600)
}

/// Drops what was kept of a process.
pub(crate) fn forget(paths: &Paths, pid: i32) {
    let _ = fs::remove_file(file(paths, pid));
}

/// What was kept of this very process.
pub(crate) fn of(paths: &Paths, process: ProcessId) -> Option<KeeperStatus> {
    read(&file(paths, process.pid)).filter(|status| status.process == process)
}

/// What was kept of all processes that still live; the rest is dropped.
pub(crate) fn all(paths: &Paths) -> Vec<KeeperStatus> {
    let entries = fs::read_dir(paths.history()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut living = Vec::new();
    for path in entries.filter(|path| path.extension().is_some_and(|end| end == "json")) {
        match read(&path).filter(|status| lives(status.process)) {
            Some(status) => living.push(status),
            None => drop(fs::remove_file(path)),
        }
    }
    living
}

fn read(path: &Path) -> Option<KeeperStatus> {
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
        keep(&paths, &status(own)).unwrap();
        keep(&paths, &status(ProcessId { pid: i32::MAX, start_ticks: 1 })).unwrap();
        assert_eq!(of(&paths, own), Some(status(own)));
        assert_eq!(of(&paths, ProcessId { start_ticks: own.start_ticks + 1, ..own }), None);
        assert_eq!(all(&paths), [status(own)]);
        assert_eq!(of(&paths, ProcessId { pid: i32::MAX, start_ticks: 1 }), None);
        keep(&paths, &status(ProcessId { start_ticks: own.start_ticks + 1, ..own })).unwrap();
        assert!(all(&paths).is_empty());
    }
}
