//! What is known of running labs: one directory each, holding one file.
//!
//! The directory itself is the lock. Whoever makes, takes down or sweeps a lab holds an flock on
//! it; so no lock file outlives the lab, and a lock dies with its holder. Lock order: one lab's
//! lock at a time, never two.

use crate::cgroup;
use crate::error::{Doing, Error, Result};
use crate::identity::{self, Hold};
use crate::shared;
use crate::spec::{CpuShare, Memory, Rate};
use model::{NodeId, ProcessId};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the labs of this machine are noted down.
pub const STATE_DIRECTORY: &str = "/run/openmosix-lab";

/// A running lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub name: String,
    /// The process all others of the lab die with.
    pub supervisor: ProcessId,
    /// Speed of the network connections; `None` is unlimited.
    pub rate: Option<Rate>,
    /// Its nodes, by id.
    pub nodes: Vec<NodeState>,
}

/// A node of a running lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// Its name, which is also its hostname.
    pub name: String,
    /// Its id.
    pub id: NodeId,
    /// Its init, as this machine sees it.
    pub init: ProcessId,
    /// Its address on the lab's network.
    pub address: Ipv4Addr,
    /// The CPUs it is pinned to.
    pub cpus: Vec<usize>,
    /// How much CPU it has.
    pub cpu_share: CpuShare,
    /// Its limit of memory; `None` is this machine's.
    pub memory: Option<Memory>,
}

impl NodeState {
    /// Whether the node still runs.
    pub fn is_alive(&self) -> bool {
        identity::hold(self.init).is_some()
    }

    /// Where this machine sees a path of the node's, like `/var/log/openmosix/omd.log`.
    ///
    /// Only root may look, and a link of the node's that begins with `/` leads astray.
    pub fn seen_from_outside(&self, path: &str) -> PathBuf {
        let root = Path::new("/proc").join(self.init.pid.to_string()).join("root");
        root.join(path.trim_start_matches('/'))
    }
}

/// The exclusive right to change one lab.
pub(crate) struct Lock {
    name: String,
    _flock: Flock<File>,
}

pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(STATE_DIRECTORY).join(name)
}

fn file(name: &str) -> PathBuf {
    directory(name).join("state.json")
}

/// Locks a lab's directory, which is made if need be.
pub(crate) fn lock_new(name: &str) -> Result<Lock> {
    let path = directory(name);
    loop {
        shared::make(&path).doing(|| format!("make {}", path.display()))?;
        if let Some(lock) = lock(name, FlockArg::LockExclusive)? {
            return Ok(lock);
        }
    }
}

/// Locks a lab's directory, after whoever holds it; `None` if there is none.
pub(crate) fn lock_existing(name: &str) -> Result<Option<Lock>> {
    lock(name, FlockArg::LockExclusive)
}

fn lock(name: &str, how: FlockArg) -> Result<Option<Lock>> {
    let path = directory(name);
    let opened = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.doing(|| format!("open {}", path.display()))?,
    };
    let mut flock = Flock::lock(opened, how);
    while let Err((opened, Errno::EINTR)) = flock {
        flock = Flock::lock(opened, how);
    }
    let flock = match flock {
        Ok(flock) => flock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, error)) => return Err(error).doing(|| format!("lock {}", path.display())),
    };
    // The holder before us may have removed the directory, and another may have made it anew.
    let inode = |data: fs::Metadata| (data.dev(), data.ino());
    let ours = flock.metadata().map(inode).ok();
    if ours.is_none() || ours != fs::metadata(&path).map(inode).ok() {
        return Ok(None);
    }
    Ok(Some(Lock { name: name.to_owned(), _flock: flock }))
}

/// Reads a lab's state; `None` if there is no such lab, or not yet.
pub(crate) fn read(name: &str) -> Result<Option<State>> {
    let path = file(name);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.doing(|| format!("read {}", path.display()))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| Error::State { path, source })
}

impl Lock {
    /// Notes the lab down; readers see all of it or nothing.
    pub(crate) fn write(&self, state: &State) -> Result<()> {
        let path = file(&self.name);
        let fresh = path.with_extension("new");
        let doing = || format!("write {}", path.display());
        let text = serde_json::to_vec_pretty(state).map_err(io::Error::other).doing(doing)?;
        let mut opened = File::create(&fresh).doing(doing)?;
        opened.write_all(&text).doing(doing)?;
        fs::rename(&fresh, &path).doing(doing)
    }

    /// The lab's supervisor, if it runs.
    pub(crate) fn supervisor(&self) -> Option<Hold> {
        let state = read(&self.name).ok().flatten()?;
        identity::hold(state.supervisor)
    }

    /// Removes what does not vanish with the supervisor: cgroups, state file, directory.
    pub(crate) fn remove_remains(self) -> Result<()> {
        cgroup::remove(&self.name)?;
        let path = directory(&self.name);
        fs::remove_dir_all(&path).doing(|| format!("remove {}", path.display()))?;
        shared::remove_if_empty(Path::new(STATE_DIRECTORY));
        Ok(())
    }
}

/// The names of all labs noted down.
fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(STATE_DIRECTORY) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Cleans up after labs whose supervisor is gone and whose keeper could not do it.
///
/// Labs that somebody is working on are left alone. Failures are too: whoever needs the name will see them.
pub(crate) fn sweep() {
    for name in names() {
        if let Ok(Some(lock)) = lock(&name, FlockArg::LockExclusiveNonblock)
            && lock.supervisor().is_none()
        {
            let _ = lock.remove_remains();
        }
    }
}

/// All running labs, by name.
pub(crate) fn running() -> Vec<State> {
    let states = names().into_iter().filter_map(|name| read(&name).ok().flatten());
    states.filter(|state| identity::hold(state.supervisor).is_some()).collect()
}
