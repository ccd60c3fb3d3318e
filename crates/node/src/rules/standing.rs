//! What people have said about processes: one small file each, which outlives the daemon but not the process.
//!
//! Children inherit. Whose file says nothing asks its parent's, and so on up; and whoever is seen for the first time gets
//! what it inherits in a file of its own, so that it keeps that when its parent ends.

use crate::Error;
use crate::config::Paths;
use model::limits::ANCESTORS_MAX;
use model::{ProcessId, Standing};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use wire::peer::Bonds;

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    process: ProcessId,
    standing: Standing,
}

fn file(paths: &Paths, pid: i32) -> PathBuf {
    paths.standings().join(format!("{pid}.json"))
}

fn read(path: &Path) -> Option<Note> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Who it is now that has a pid, and its parent.
fn living(pid: i32) -> Option<(ProcessId, i32)> {
    let stat = procinfo::stat(pid).ok()?;
    Some((ProcessId { pid, start_ticks: stat.start_ticks }, stat.parent))
}

/// What was said about this very process, and nothing that it inherits.
fn own(paths: &Paths, process: ProcessId) -> Standing {
    let note = read(&file(paths, process.pid)).filter(|note| note.process == process);
    note.map(|note| note.standing).unwrap_or_default()
}

/// What holds for a process: what was said about it, and what it inherits.
pub(crate) fn of(paths: &Paths, process: ProcessId) -> Standing {
    // It is asked for every busy process, every second.
    if !any(paths) {
        return Standing::default();
    }
    along(process, &living, &|process| own(paths, process))
}

/// What of it the host of a process must know.
pub(crate) fn bonds(paths: &Paths, process: ProcessId) -> Bonds {
    let Standing { hold, mask, decay, .. } = of(paths, process);
    Bonds { hold, mask: mask.unwrap_or_default(), decay }
}

/// Walks up the ancestors.
fn along(
    process: ProcessId,
    living: &dyn Fn(i32) -> Option<(ProcessId, i32)>,
    own: &dyn Fn(ProcessId) -> Standing,
) -> Standing {
    let mut standing = Standing::default();
    let mut pid = process.pid;
    let mut youngest = u64::MAX;
    for _ in 0..ANCESTORS_MAX {
        let Some((current, parent)) = living(pid) else { break };
        // A parent is never younger than its child: this one has only got the pid of one.
        if current.start_ticks > youngest || (pid == process.pid && current != process) {
            break;
        }
        standing.inherit(&own(current));
        (pid, youngest) = (parent, current.start_ticks);
    }
    standing
}

/// Adds to what was said about a process, and gives what holds for it from now on.
pub(crate) fn amend(paths: &Paths, process: ProcessId, more: &Standing) -> Result<Standing, Error> {
    let mut standing = own(paths, process);
    standing.amend(more);
    keep(paths, process, standing)?;
    Ok(of(paths, process))
}

fn keep(paths: &Paths, process: ProcessId, standing: Standing) -> Result<(), Error> {
    crate::config::keep_json(&file(paths, process.pid), &Note { process, standing }, 0o600)
}

/// Whether anything was said about anybody: as long as not, nobody inherits.
fn any(paths: &Paths) -> bool {
    fs::read_dir(paths.standings()).is_ok_and(|mut entries| entries.next().is_some())
}

/// Writes down what a process that was just born inherits.
pub(crate) fn settle(paths: &Paths, process: ProcessId) -> Result<(), Error> {
    let standing = of(paths, process);
    if standing.is_empty() || own(paths, process) == standing {
        Ok(())
    } else {
        keep(paths, process, standing)
    }
}

/// Drops what was said about processes that are dead.
pub(crate) fn sweep(paths: &Paths) {
    let entries = fs::read_dir(paths.standings()).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in entries.filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let lives =
            |note: &Note| living(note.process.pid).is_some_and(|(process, _)| process == note.process);
        if read(&path).filter(lives).is_none() {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Hold;
    use std::collections::HashMap;
    use std::process::{Command, Stdio};

    fn paths(directory: &Path) -> Paths {
        Paths { run: directory.to_owned(), ..Paths::default() }
    }

    fn locked() -> Standing {
        Standing { hold: Some(Hold::Locked), ..Standing::default() }
    }

    #[test]
    fn ancestors_are_asked_and_reused_pids_are_not() {
        let id = |pid, start_ticks| ProcessId { pid, start_ticks };
        let alive: HashMap<i32, (ProcessId, i32)> = HashMap::from([
            (9, (id(9, 90), 8)),
            (8, (id(8, 80), 7)),
            (7, (id(7, 70), 1)),
            (1, (id(1, 0), 0)),
            // Its parent's pid belongs to somebody who came later.
            (5, (id(5, 50), 4)),
            (4, (id(4, 60), 1)),
        ]);
        let said: HashMap<i32, Standing> =
            HashMap::from([(8, Standing { job: true, ..Standing::default() }), (7, locked()), (4, locked())]);
        let of = |process| {
            along(process, &|pid| alive.get(&pid).copied(), &|process| {
                said.get(&process.pid).cloned().unwrap_or_default()
            })
        };
        assert_eq!(of(id(9, 90)), Standing { job: true, ..locked() });
        assert_eq!(of(id(5, 50)), Standing::default());
        assert_eq!(of(id(9, 91)), Standing::default(), "another one with its pid");
        let ring = |pid| Some((id(pid, 5), 3 - pid));
        assert_eq!(along(id(1, 5), &ring, &|_| Standing::default()), Standing::default());
    }

    #[test]
    fn it_outlives_the_daemon_and_the_parent_but_not_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        assert!(!any(&paths));
        let me = living(std::process::id() as i32).unwrap().0;
        assert_eq!(amend(&paths, me, &locked()).unwrap(), locked());
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let born = living(child.id() as i32).unwrap().0;
        assert_eq!(of(&paths, born), locked());
        settle(&paths, born).unwrap();
        let unlocked = Standing { hold: Some(Hold::Unlocked), ..Standing::default() };
        assert_eq!(amend(&paths, me, &unlocked).unwrap(), unlocked);
        assert_eq!(of(&paths, born), locked(), "it has its own");
        assert_eq!(own(&paths, ProcessId { start_ticks: born.start_ticks + 1, ..born }), Standing::default());
        sweep(&paths);
        assert_eq!(of(&paths, born), locked());
        child.kill().unwrap();
        child.wait().unwrap();
        sweep(&paths);
        assert!(!file(&paths, born.pid).exists() && file(&paths, me.pid).exists() && any(&paths));
    }
}
