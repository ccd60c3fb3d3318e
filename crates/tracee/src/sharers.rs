//! Who else has the shared memory of a process, or a file of its own.
//!
//! The kernel does not say how many processes map an object; so everybody is looked at. Who comes to have one gets it from
//! somebody who has it, by `fork`: therefore one look at everybody is enough, provided that it also finds those who began
//! during the look. A file can be opened, or its descriptor be sent, at any time: for those everybody is looked at each time.

use crate::error::{Error, Result};
use crate::own_files::{OwnFile, inode_under};
use model::{Reason, ReasonCode, Reasons};
use procinfo::{Identity, Mapping, Walk};
use std::collections::{BTreeMap, BTreeSet};

/// Rounds of a look, each at those who began during the last one, at most. Where they never end, nobody can tell.
const ROUNDS_MAX: usize = 16;

/// A look at everybody, which can be completed later: who had none of the objects then can only have got one by being
/// born. It must not grow old, as pids are given again.
#[derive(Debug, Default)]
pub struct Look {
    objects: BTreeSet<Identity>,
    /// Device and inode of each file of its own, with what is under its mappings.
    files: BTreeMap<(u64, u64), Identity>,
    known: BTreeSet<i32>,
}

impl Look {
    /// Refuses a process that shares memory, or a file of its own, with another one. Who has been looked at already is not
    /// looked at again, unless there are new objects or any files. Whoever is stopped begins to share nothing.
    pub fn refuse(&mut self, pid: i32, mappings: &[Mapping], own: &[OwnFile]) -> Result<()> {
        let reasons = self.reasons(pid, mappings, own);
        if reasons.is_empty() { Ok(()) } else { Err(Error::Refused(Reasons(reasons))) }
    }

    /// A reason for each object that another process has too; none without a look where there are no objects.
    pub(crate) fn reasons(&mut self, pid: i32, mappings: &[Mapping], own: &[OwnFile]) -> Vec<Reason> {
        let is_own = |mapping: &Mapping| own.iter().any(|own| own.identity == mapping.identity());
        let mut objects: BTreeMap<_, &Mapping> = BTreeMap::new();
        let mut reasons = Vec::new();
        for mapping in mappings {
            if is_own(mapping) && !mapping.shared {
                reasons.push(reason(mapping, "which it also maps privately"));
            } else if is_own(mapping) || mapping.is_shared_anonymous() {
                objects.entry(mapping.identity()).or_insert(mapping);
            }
        }
        if !own.is_empty() || !objects.keys().all(|object| self.objects.contains(object)) {
            self.known.clear();
            self.objects = objects.keys().cloned().collect();
            self.files = own.iter().map(|own| (own.inode, own.identity.clone())).collect();
        }
        if objects.is_empty() {
            return reasons;
        }
        match self.others(pid) {
            Ok(found) => {
                let shared =
                    found.iter().filter_map(|(id, other)| objects.get(id).map(|mapping| (mapping, other)));
                reasons
                    .extend(shared.map(|(mapping, other)| reason(mapping, &format!("with process {other}"))));
            }
            Err(why) => reasons.extend(objects.values().map(|mapping| reason(mapping, &why))),
        }
        reasons
    }

    /// The objects that others have, each with one of those; or why that cannot be known.
    fn others(&mut self, pid: i32) -> std::result::Result<BTreeMap<Identity, i32>, String> {
        let walk = Walk::open().map_err(|error| error.to_string())?;
        let mut found = BTreeMap::new();
        self.known.insert(pid);
        for _ in 0..ROUNDS_MAX {
            let pids = walk.pids(usize::MAX).map_err(|error| error.to_string())?;
            let fresh: Vec<i32> = pids.into_iter().filter(|&other| self.known.insert(other)).collect();
            if fresh.is_empty() {
                return Ok(found);
            }
            for other in fresh {
                let unseen = |error: std::io::Error| format!("process {other} cannot be looked at: {error}");
                let shared =
                    shared_with(pid, other, &self.objects, !self.files.is_empty()).map_err(unseen)?;
                found.extend(shared.into_iter().map(|object| (object, other)));
                if !self.files.is_empty() {
                    let mut open = open_in(other, &self.files).map_err(unseen)?;
                    // A program of ours opens files only to look at them.
                    if !open.is_empty() && procinfo::runs_our_program(other) {
                        open.clear();
                    }
                    found.extend(open.into_iter().map(|object| (object, other)));
                }
            }
        }
        Err("processes begin faster than they can be looked at".to_owned())
    }
}

fn reason(mapping: &Mapping, why: &str) -> Reason {
    let code =
        if mapping.is_shared_anonymous() { ReasonCode::SharedMemory } else { ReasonCode::SharedMapping };
    Reason::new(code, format!("{} {}, {why}", mapping.file_name(), mapping.path))
}

/// The objects, of those that are wanted, that another process maps; `files` tells that they are not only memory. One that
/// has ended maps none, and a child of `vfork` is no other user: it runs on the memory of its parent.
fn shared_with(
    pid: i32,
    other: i32,
    wanted: &BTreeSet<Identity>,
    files: bool,
) -> std::io::Result<Vec<Identity>> {
    let mappings = match if files { procinfo::maps(other) } else { procinfo::shared_anonymous(other) } {
        Ok(mappings) => mappings,
        Err(error) if has_ended(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let shared: Vec<Identity> =
        mappings.iter().map(Mapping::identity).filter(|identity| wanted.contains(identity)).collect();
    let is_same = !shared.is_empty() && kernel::process::share_memory(pid, other).unwrap_or(false);
    Ok(if is_same { Vec::new() } else { shared })
}

/// Whether a process other than `pid`, and no program of ours, has a file open: by device and inode.
pub(crate) fn is_open_elsewhere(pid: i32, inode: (u64, u64)) -> std::io::Result<bool> {
    let mut look = Look { files: BTreeMap::from([(inode, Identity::default())]), ..Look::default() };
    look.others(pid).map(|found| !found.is_empty()).map_err(std::io::Error::other)
}

/// The files, of these, that a process has open.
fn open_in(other: i32, files: &BTreeMap<(u64, u64), Identity>) -> std::io::Result<Vec<Identity>> {
    let entries = match std::fs::read_dir(format!("/proc/{other}/fd")) {
        Ok(entries) => entries,
        Err(error) if has_ended(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if has_ended(&error) => break,
            Err(error) => return Err(error),
        };
        // What is closed meanwhile is none.
        let inode = inode_under(other, &entry.file_name().to_string_lossy());
        found.extend(inode.and_then(|inode| files.get(&inode)).cloned());
    }
    Ok(found)
}

/// Its memory, or all of it, is gone.
fn has_ended(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::process::{Side, clone_with_tid};
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

    /// Not everybody can be looked at where the tests run.
    #[test]
    fn a_socket_is_open_in_who_was_given_it() {
        let (ours, given) = std::os::unix::net::UnixStream::pair().unwrap();
        let own = std::process::id() as i32;
        let wanted = |end: &std::os::unix::net::UnixStream| {
            let inode = inode_under(own, &std::os::fd::AsRawFd::as_raw_fd(end).to_string()).unwrap();
            BTreeMap::from([(inode, Identity::default())])
        };
        let (ours_is, given_is) = (wanted(&ours), wanted(&given));
        let input = std::process::Stdio::from(std::os::fd::OwnedFd::from(given));
        let mut child = std::process::Command::new("cat").stdin(input).spawn().unwrap();
        let pid = child.id() as i32;
        assert_eq!(open_in(pid, &given_is).unwrap().len(), 1);
        assert_eq!(open_in(pid, &ours_is).unwrap().len(), 0);
        assert_eq!((open_in(own, &given_is).unwrap().len(), open_in(own, &ours_is).unwrap().len()), (0, 1));
        drop(ours);
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn memory_is_shared_with_a_child_while_that_lives() {
        let (read, write) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, which stays until the process ends.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), 8192, read, write) }.unwrap() as u64;
        let own = std::process::id() as i32;
        let here = |mapping: &Mapping| (mapping.start..mapping.end).contains(&start);
        let object = procinfo::shared_anonymous(own)
            .unwrap()
            .iter()
            .find(|mapping| here(mapping))
            .map(Mapping::identity);
        let object = object.unwrap();
        let wanted = BTreeSet::from([object.clone()]);
        let look = |other| shared_with(own, other, &wanted, false).unwrap();
        assert_eq!(look(own), [], "itself is nobody else");
        // SAFETY: the child makes calls of the kernel only.
        let child = match unsafe { clone_with_tid(0, libc::SIGCHLD, None) }.unwrap() {
            Side::Child => loop {
                nix::unistd::pause();
            },
            Side::Parent(child) => child,
        };
        assert_eq!(look(child), std::slice::from_ref(&object));
        let child = Pid::from_raw(child).unwrap();
        kill_process(child, Signal::KILL).unwrap();
        let dead = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(child), dead).unwrap();
        assert_eq!(look(child.as_raw_nonzero().get()), [], "it is dead, and not buried");
        waitid(WaitId::Pid(child), WaitIdOptions::EXITED).unwrap();
        assert_eq!(look(child.as_raw_nonzero().get()), [], "it is buried");
    }
}
