//! Which processes are in the hands of a keeper: one note each, beside the keeper's socket.
//!
//! A process whose keeper dies can neither go on nor be given back, and its deputy may sit in a call that nobody answers.
//! The keeper cannot say so any more; the daemon does it, also one that was started later and is not the keeper's parent.
//! So a keeper notes down what it holds before it touches it, and takes the note away when it has let go.

use crate::config::Paths;
use crate::{Error, journal};
use control::What;
use model::{NodeId, ProcessId};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A process in the hands of a keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The process.
    pub(crate) process: ProcessId,
    /// Its name.
    pub(crate) name: String,
    /// Its keeper.
    pub(crate) keeper: ProcessId,
    /// Where it is, or is about to be.
    pub(crate) node: NodeId,
}

fn file(paths: &Paths, pid: i32) -> PathBuf {
    paths.keepers().join(format!("{pid}.held"))
}

/// Notes that this very process holds another one; from here on it must not die without consequences.
pub(crate) fn note(paths: &Paths, process: ProcessId, node: NodeId) -> Result<(), Error> {
    let own = std::process::id() as i32;
    let stat = procinfo::stat(own).map_err(Error::system("look at itself"))?;
    let keeper = ProcessId { pid: own, start_ticks: stat.start_ticks };
    let name = procinfo::name(process.pid, process.pid).unwrap_or_default();
    let text = serde_json::to_string(&Held { process, name, keeper, node })
        .map_err(|error| Error::Line(error.to_string()))?;
    crate::config::write_file(&file(paths, process.pid), &text, 0o600)
}

/// The process is in nobody's hands any more.
pub(crate) fn forget(paths: &Paths, pid: i32) {
    // It fails only where there is no note.
    let _ = fs::remove_file(file(paths, pid));
}

/// Whether a keeper holds this very process, or held it when it died.
pub(crate) fn is_held(paths: &Paths, process: ProcessId) -> bool {
    let note = fs::read(file(paths, process.pid)).ok();
    note.and_then(|text| serde_json::from_slice::<Held>(&text).ok())
        .is_some_and(|held| held.process == process)
}

/// Ends the processes whose keepers are dead, and says so in the log, once each; gives their number.
pub(crate) fn settle(paths: &Paths) -> usize {
    static ALONE: Mutex<()> = Mutex::new(());
    // The end of an agent, a question and the clock may all come here at once.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let entries = fs::read_dir(paths.keepers()).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.extension().is_some_and(|end| end == "held"))
        .filter(|path| settle_one(paths, path))
        .count()
}

fn settle_one(paths: &Paths, path: &Path) -> bool {
    let note = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Held>(&text).ok());
    // One that cannot be read is just being taken away: notes appear whole.
    let Some(held) = note.filter(|held| !lives(held.keeper)) else { return false };
    // The keeper may have let go as its last act.
    if !path.exists() {
        return false;
    }
    let Held { process, name, node, .. } = held;
    let pid = process.pid;
    let lost = journal::now(What::Lost).process(process, &name).node(node).cause("its keeper died");
    journal::note(paths, lost);
    match end(process) {
        Ok(()) => tracing::error!(pid, name, %node, cause = "its keeper died", "ended with SIGKILL"),
        Err(error) => {
            tracing::error!(pid, name, %node, cause = "its keeper died", %error, "ended; with SIGKILL, if its keeper had stopped it")
        }
    }
    let _ = fs::remove_file(path);
    true
}

fn lives(process: ProcessId) -> bool {
    procinfo::stat(process.pid)
        .is_ok_and(|stat| stat.start_ticks == process.start_ticks && stat.state != b'Z')
}

/// Kills exactly this process: the descriptor is taken first, and then it is looked whose it is.
fn end(process: ProcessId) -> std::io::Result<()> {
    let pid = Pid::from_raw(process.pid).ok_or(std::io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    if procinfo::stat(process.pid)?.start_ticks != process.start_ticks {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    Ok(pidfd_send_signal(&pidfd, Signal::KILL)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    #[test]
    fn only_what_a_dead_keeper_held_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let paths =
            Paths { run: directory.path().to_owned(), log: directory.path().join("log"), ..Paths::default() };
        fs::create_dir_all(paths.keepers()).unwrap();
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = sleeper.id() as i32;
        let process = ProcessId { pid, start_ticks: procinfo::stat(pid).unwrap().start_ticks };
        let node = NodeId::new(2).unwrap();
        note(&paths, process, node).unwrap();
        assert_eq!(settle(&paths), 0, "its keeper lives");
        let path = file(&paths, pid);
        let mut held: Held = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!((held.name.as_str(), held.process), ("sleep", process));
        // Its keeper is dead, and the pid belongs to somebody else.
        held.keeper.start_ticks += 1;
        let write = |held: &Held| fs::write(&path, serde_json::to_string(held).unwrap()).unwrap();
        write(&Held { process: ProcessId { start_ticks: 1, ..process }, ..held.clone() });
        assert_eq!(settle(&paths), 1);
        assert!(sleeper.try_wait().unwrap().is_none(), "another process was killed");
        write(&held);
        assert_eq!(settle(&paths), 1);
        assert_eq!(sleeper.wait().unwrap().signal(), Some(9));
        assert!(!path.exists());
        let why = journal::end_of(&paths, process).unwrap().unwrap();
        assert_eq!((why.what, why.cause.as_str(), why.node), (What::Lost, "its keeper died", Some(node)));
        note(&paths, process, node).unwrap();
        forget(&paths, pid);
        forget(&paths, pid);
        assert_eq!(settle(&paths), 0);
    }
}
